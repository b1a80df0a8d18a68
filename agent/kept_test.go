package agent

import (
	"testing"
	"testing/synctest"
	"time"
)

// A reload puts no expired token back.
func TestReloadDeliversNothingExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 10*time.Minute)
		s := &fakeSink{id: "s"}
		w.run(&Spec{Name: "c", Source: f, Sinks: []Sink{s}})
		defer w.shutdown()
		synctest.Wait()
		fails(f, Transient)
		w.waitInvalid("c")
		time.Sleep(time.Minute)
		n := s.delivered()
		_ = w.a.Apply([]*Spec{{Name: "c", Source: again{f}, Sinks: []Sink{s}}}, nil)
		time.Sleep(time.Minute)
		if more := s.delivered() - n; more != 0 {
			t.Errorf("an expired token was delivered %d times more by a reload", more)
		}
	})
}

// A logout that the disk did not take is saved later, or a restart would undo it.
func TestLogoutIsSavedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 24*time.Hour)
		w.run(&Spec{Name: "c", Source: f})
		synctest.Wait()
		w.store.fail(errDisk)
		_ = w.token("c").Logout(t.Context())
		t.Log(brief(w.token("c").Status(), w), w.token("c").Status().Unsaved)
		time.Sleep(time.Second)
		w.store.fail(nil)
		time.Sleep(time.Hour)
		w.shutdown()
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(time.Minute)
		if w.token("c").Current() != nil {
			t.Errorf("the logged out token is published again: %s", brief(w.token("c").Status(), w))
		}
	})
}

// A save is no renewal: who asks meanwhile gets one.
func TestWishDuringASave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 24*time.Hour)
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(time.Minute)
		w.store.slowDown(2 * time.Second)
		w.stepWall(time.Minute) // rewrites, and saves
		w.a.ClockChanged()
		time.Sleep(time.Second)
		if err := w.token("c").Refresh(t.Context(), mgr); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if g := w.token("c").Current().Generation; g != 2 {
			t.Errorf("generation %d five minutes after a refresh that was granted", g)
		}
	})
}

// The gap is between an answer and its token, whatever is delivered again later.
func TestGapIsOfRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, time.Hour)
		f.traits.OverlapNone = true
		s := &fakeSink{id: "s"}
		w.run(&Spec{Name: "c", Source: f, Sinks: []Sink{s}})
		defer w.shutdown()
		time.Sleep(30 * time.Minute)
		_ = w.a.Apply([]*Spec{{Name: "c", Source: again{f}, Sinks: []Sink{s}}}, nil)
		time.Sleep(time.Second)
		if d, _ := w.a.Gap(); d > time.Second {
			t.Errorf("renewd_gap_seconds %v after a reload", d)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, time.Hour)
		f.traits.OverlapNone = true
		s := &fakeSink{id: "s"}
		w.run(&Spec{Name: "c", Source: f, Sinks: []Sink{s}})
		time.Sleep(10 * time.Minute)
		w.shutdown()
		w.run(&Spec{Name: "c", Source: f, Sinks: []Sink{s}})
		defer w.shutdown()
		time.Sleep(time.Second)
		if d, _ := w.a.Gap(); d > time.Second {
			t.Errorf("renewd_gap_seconds %v after a restart", d)
		}
	})
}

// A lead that min_interval cuts is the lead, and said to be cut.
func TestLeadCutByMinInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, time.Minute)
		w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true, MinInterval: 50 * time.Second}})
		defer w.shutdown()
		time.Sleep(46 * time.Second)
		s := w.token("c").Status()
		t.Logf("lead %v s, cut %v, next renewal in %v, %v before the expiry; overdue %v", s.LeadSeconds, s.LeadCut, s.NextRenewal.Sub(w.now().Wall), s.ExpiresAt.Sub(s.NextRenewal), w.token("c").Overdue())
		if !s.LeadCut || w.token("c").Overdue() {
			t.Error("status does not say that the lead is cut, and health says the renewal is overdue")
		}
	})
}
