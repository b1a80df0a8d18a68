package main

import (
	"testing"
	"time"

	"renewd/agent/source/standin"
)

// An agent that is started has its first token soon, every time.
func TestE2EFirstTokenComesAtOnce(t *testing.T) {
	r, _, _ := commanderRig(t, standin.CommanderOptions{})
	for i := range 20 {
		began := time.Now()
		r.start()
		r.waitFile("c")
		if d := time.Since(began); d > 5*time.Second {
			t.Fatalf("start %d: the first token took %v", i, d)
		}
		r.stop()
		r.wipe()
	}
}
