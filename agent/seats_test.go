package agent

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"
)

// A token that has left the config leaves nothing behind, though the memory that
// readers look at is shared with a token that stays.
func TestARemovedTokenIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stays := &Spec{Name: "stays", Source: newFake(w.now)}
		w.run(stays, &Spec{Name: "goes", Source: newFake(w.now)})
		defer w.shutdown()
		synctest.Wait()
		w.mustValid("goes")
		gone, value := weak.Make(w.token("goes").k), weak.Make(w.token("goes").Current())
		if err := w.a.Apply([]*Spec{stays}, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour) // its turn comes
		synctest.Wait()
		runtime.GC()
		runtime.GC()
		if gone.Value() != nil || value.Value() != nil {
			t.Errorf("its keeper is there: %v, its value: %v", gone.Value() != nil, value.Value() != nil)
		}
		w.mustValid("stays")
	})
}
