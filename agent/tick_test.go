package agent

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Who watches the loop hears of it as often as was asked for, due work or none,
// and no more once the loop hangs: the tick is the loop's own.
func TestTickIsTheLoopsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var ticks atomic.Int64
		var gate atomic.Pointer[chan struct{}]
		clock := func() Instant {
			if c := gate.Load(); c != nil {
				<-*c
			}
			return w.now()
		}
		a, err := New(Options{Store: w.store, Clock: clock, BootID: "b", Log: slog.New(slog.DiscardHandler),
			Tick: func() { ticks.Add(1) }, TickEvery: 3 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		f := newFake(w.now)
		if err := a.Apply([]*Spec{{Name: "c", Source: f}}, nil); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = a.Run(ctx) }()
		for range 20 {
			before := ticks.Load()
			time.Sleep(3*time.Second + tick)
			synctest.Wait()
			if ticks.Load() == before {
				t.Fatal("no tick for 3 s")
			}
		}

		shut := make(chan struct{})
		gate.Store(&shut) // the loop hangs in its next look
		time.Sleep(2 * time.Minute)
		hung := ticks.Load()
		time.Sleep(time.Minute)
		if n := ticks.Load(); n != hung {
			t.Errorf("%d ticks while the loop hung", n-hung)
		}
		gate.Store(nil)
		close(shut)
		time.Sleep(time.Minute)
		if ticks.Load() == hung {
			t.Error("no tick after the loop went on")
		}
		cancel()
		<-done
	})
}
