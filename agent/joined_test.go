package agent

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// onRenewed calls f where a renewal has published and has not ended yet.
type onRenewed struct {
	slog.Handler
	f func()
}

func (h onRenewed) Enabled(context.Context, slog.Level) bool { return true }

func (h onRenewed) Handle(_ context.Context, r slog.Record) error {
	if r.Message == MsgRenewed {
		h.f()
	}
	return nil
}

// A refresh that is asked for after a renewal has published, but before it has
// ended, is another one: it does not join what has come already.
func TestARefreshJoinsNoRenewalThatHasCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		asked := false
		log := slog.New(onRenewed{slog.DiscardHandler, func() {
			if !asked {
				asked = true
				if err := w.token("c").Refresh(t.Context(), Caller{ID: "t"}); err != nil {
					t.Error(err)
				}
			}
		}})
		a, err := New(Options{Store: w.store, Clock: w.now, BootID: w.bootID, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		w.a, w.stop, w.done = a, cancel, make(chan struct{})
		if err := a.Apply([]*Spec{{Name: "c", Source: newFake(w.now)}}, nil); err != nil {
			t.Fatal(err)
		}
		go func() { defer close(w.done); _ = a.Run(ctx) }()
		defer w.shutdown()
		time.Sleep(5 * time.Second)
		if p := w.token("c").Current(); p == nil || p.Generation != 2 {
			t.Errorf("five seconds after the refresh: %+v", p)
		}
	})
}
