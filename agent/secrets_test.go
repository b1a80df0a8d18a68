package agent

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A secret that has worked again is held for none of its tokens.
func TestSecretThatWorkedFreesItsOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f, g := long(w, time.Hour), long(w, time.Hour)
		g.traits.Fingerprint = "g"
		for _, x := range []*fakeSource{f, g} {
			x.set(func(x *fakeSource) {
				x.fault = func(s Step) error { return &Error{Kind: Rejected, Step: s, Detail: "401"} }
			})
		}
		w.run(&Spec{Name: "a", Source: f}, &Spec{Name: "b", Source: g})
		defer w.shutdown()
		time.Sleep(6 * time.Minute)
		heals(f)
		heals(g)
		if err := w.token("a").Refresh(t.Context(), mgr); err != nil {
			if err := w.token("b").Refresh(t.Context(), mgr); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Second)
		t.Logf("a: %s", brief(w.token("a").Status(), w))
		t.Logf("b: %s", brief(w.token("b").Status(), w))
		d, ok := until(3*time.Hour, func() bool { return w.valid("a") && w.valid("b") })
		if !ok || d > 2*time.Minute {
			t.Errorf("the other is valid (%v) only after %v", ok, d)
		}
	})
}

// A probe that meets an outage is still to be answered.
func TestProbeMeetsAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, time.Hour)
		fails(f, Rejected)
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(34 * time.Minute)
		fails(f, Transient)
		time.Sleep(2 * time.Minute)
		heals(f)
		t.Log(brief(w.token("c").Status(), w))
		d, ok := until(2*time.Hour, func() bool { return w.valid("c") })
		if !ok || d > 10*time.Minute {
			t.Errorf("valid (%v) after %v", ok, d)
		}
	})
}

// A refusal of another time is not the first of two.
func TestOldRefusalIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, time.Hour)
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		synctest.Wait()
		failsBy(f, Rejected, Transient)
		untilLogin(f)
		heals(f)
		time.Sleep(30 * 24 * time.Hour)
		// a month later: the server ends the session and says 401 once more
		var n atomic.Int32
		f.set(func(f *fakeSource) {
			f.fault = func(s Step) error {
				if n.Add(1) <= 2 {
					k := Rejected
					if s == StepRefresh {
						k = SessionOver
					}
					return &Error{Kind: k, Step: s, Detail: "401"}
				}
				return nil
			}
		})
		until(2*time.Hour, func() bool { return n.Load() >= 2 })
		d, ok := until(2*time.Hour, func() bool { return n.Load() > 2 })
		if !ok || d > 6*time.Minute {
			t.Errorf("the second try came (%v) after %v: %s", ok, d, brief(w.token("c").Status(), w))
		}
	})
}

// A Retry-After holds for all tokens of the account.
func TestRetryAfterIsTheAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f, g := long(w, time.Hour), long(w, 10*time.Minute)
		g.traits.Fingerprint = "g"
		f.traits.CanRefresh, g.traits.CanRefresh = false, false
		w.run(&Spec{Name: "a", Source: f, Renew: Renew{NoJitter: true}}, &Spec{Name: "b", Source: g, Renew: Renew{NoJitter: true}})
		defer w.shutdown()
		time.Sleep(time.Minute)
		g.set(func(f *fakeSource) {
			f.fault = func(s Step) error { return &Error{Kind: Throttled, Step: s, Detail: "429", Wait: 10 * time.Minute} }
		})
		time.Sleep(5 * time.Minute)
		n, _ := f.counts()
		_ = w.token("a").Refresh(t.Context(), mgr)
		time.Sleep(4 * time.Minute)
		if m, _ := f.counts(); m > n {
			t.Errorf("a login within another token's Retry-After")
		}
		heals(g)
		d, ok := until(time.Hour, func() bool { return w.valid("b") })
		t.Log(ok, d)
	})
}

// A wrong secret costs the right one of the same account nothing.
func TestNeighbourWithWrongSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f, g := long(w, 10*time.Minute), long(w, 10*time.Minute)
		f.traits.CanRefresh, g.traits.CanRefresh, g.traits.Fingerprint = false, false, "g"
		g.password = "bad"
		w.run(&Spec{Name: "a", Source: f}, &Spec{Name: "b", Source: g})
		defer w.shutdown()
		time.Sleep(time.Second)
		for range 600 {
			time.Sleep(time.Minute)
			w.mustValid("a")
		}
		t.Log(g.bad)
	})
}

// What the ledger could not write it writes later, or a restart would spend a try.
func TestLedgerIsWrittenLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, time.Hour)
		f.password = "wrong"
		f.slow = time.Second
		w.run(&Spec{Name: "c", Source: f})
		time.Sleep(500 * time.Millisecond) // sent
		w.store.fail(errDisk)
		time.Sleep(time.Second) // refused; the booking is not written
		w.store.fail(nil)
		time.Sleep(30 * time.Minute)
		if err := w.a.StateError(); err != nil {
			t.Errorf("half an hour after the disk is well: state error %v", err)
		}
		w.shutdown()
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(10 * time.Second)
		if f.bad > 1 {
			t.Errorf("%d refused logins within 31 min of a secret that never worked", f.bad)
		}
	})
}
