package agent

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// A machine that starts with a clock that is behind holds nothing longer than it
// was held for, once the clock is set.
func TestClockEarlyAtBoot(t *testing.T) {
	for _, c := range []struct {
		name  string
		err   *Error
		early time.Duration
	}{
		{"one 401, clock 2 h early", &Error{Kind: Rejected, Detail: "401"}, 2 * time.Hour},
		{"one 401, 1970", &Error{Kind: Rejected, Detail: "401"}, 30 * 365 * 24 * time.Hour},
		{"locked 5 min, 1970", &Error{Kind: Locked, Detail: "locked", Wait: 5 * time.Minute}, 30 * 365 * 24 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f := long(w, 10*time.Minute)
				f.traits.CanRefresh = false
				w.run(&Spec{Name: "c", Source: f})
				synctest.Wait()
				w.mustValid("c")
				f.set(func(f *fakeSource) { f.fault = func(s Step) error { e := *c.err; e.Step = s; return &e } })
				n, _ := f.counts()
				until(time.Hour, func() bool { m, _ := f.counts(); return m > n })
				w.shutdown()
				heals(f)
				w.bootID = "boot-2"
				w.stepWall(-c.early)
				w.run(&Spec{Name: "c", Source: f})
				defer w.shutdown()
				time.Sleep(20 * time.Second)
				w.stepWall(c.early) // NTP
				d, ok := until(72*time.Hour, func() bool { return w.valid("c") })
				t.Logf("valid %v after %v", ok, d)
				if !ok || d > 10*time.Minute {
					t.Errorf("%v after NTP; %+v", d, w.token("c").Status())
				}
			})
		})
	}
}

// A token that ran out while the machine was off is found out when the clock is
// set.
func TestClockBehindAtBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 12*time.Hour)
		w.run(&Spec{Name: "c", Source: f})
		time.Sleep(time.Minute)
		w.shutdown()
		n1, r1 := f.counts()
		// off for 20 h; the clock goes on from where it was at the stop
		time.Sleep(20 * time.Hour)
		w.bootID = "boot-2"
		w.stepWall(-20*time.Hour + time.Second)
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(20 * time.Second)
		w.stepWall(20 * time.Hour) // NTP
		d, ok := until(24*time.Hour, func() bool { n, r := f.counts(); return n+r > n1+r1 })
		t.Logf("first renewal %v after %v: an expired token was published as valid until then", ok, d)
		if d > time.Minute {
			t.Errorf("dead token published as valid for %v", d)
		}
	})
}

// Only what fell due by itself is spread after a suspend.
func TestResumeDelaysNoWish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 24*time.Hour)
		a, err := New(Options{Store: w.store, Clock: w.now, BootID: "boot-1", Log: slog.New(slog.DiscardHandler), Random: func() float64 { return .9 }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		w.a, w.stop, w.done = a, cancel, make(chan struct{})
		_ = a.Apply([]*Spec{{Name: "c", Source: f}}, nil)
		go func() { defer close(w.done); _ = a.Run(ctx) }()
		defer w.shutdown()
		time.Sleep(time.Minute)
		w.suspend(time.Hour)
		time.Sleep(time.Minute)
		_, _ = w.token("c").Reject(1, Caller{ID: "uid 7"})
		d, ok := until(24*time.Hour, func() bool { return w.token("c").Current().Generation > 1 })
		if !ok || d > time.Minute {
			t.Errorf("a refused token was renewed %v after %v", ok, d)
		}
		w.suspend(time.Hour)
		time.Sleep(time.Minute)
		g := w.token("c").Current().Generation
		if err := w.token("c").Refresh(t.Context(), mgr); err != nil {
			t.Fatal(err)
		}
		if d, ok := until(24*time.Hour, func() bool { return w.token("c").Current().Generation > g }); !ok || d > time.Minute {
			t.Errorf("manager's refresh: %v after %v", ok, d)
		}
		w.suspend(time.Hour)
		time.Sleep(time.Minute)
		g = w.token("c").Current().Generation
		o := long(w, 24*time.Hour)
		o.traits.Fingerprint = "other"
		_ = a.Apply([]*Spec{{Name: "c", Source: o}}, nil)
		if d, ok := until(24*time.Hour, func() bool { return w.token("c").Current().Generation > g }); !ok || d > time.Minute {
			t.Errorf("reload to another source: %v after %v", ok, d)
		}
	})
}

// What could not work before the lid was shut is tried soon after it opens.
func TestPortalThenHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, time.Hour)
		f.traits.CanRefresh = false
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		synctest.Wait()
		fails(f, Misconfigured)
		w.waitInvalid("c")
		time.Sleep(24 * time.Minute) // the wait of 35 min has just begun
		n, _ := f.counts()
		until(time.Hour, func() bool { m, _ := f.counts(); return m > n })
		heals(f)
		w.suspend(10 * time.Minute)
		w.a.ClockChanged()
		d, ok := until(24*time.Hour, func() bool { return w.valid("c") })
		if !ok || d > time.Minute {
			t.Errorf("valid (%v) %v after the resume", ok, d)
		}
	})
}

// A refresh that failed once before a suspend has not failed through it.
func TestFailedBeforeSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 24*time.Hour)
		w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
		defer w.shutdown()
		synctest.Wait()
		fails(f, Transient)
		time.Sleep(18*time.Hour + time.Second) // due; the network is going down with the lid
		w.suspend(4 * time.Hour)
		heals(f)
		w.a.ClockChanged()
		until(24*time.Hour, func() bool { return w.token("c").Current().Generation > 1 })
		if l, r := f.counts(); l > 1 {
			t.Errorf("%d logins, %d refreshes", l, r)
		}
	})
}

// No spread outlasts the session that is to be refreshed.
func TestSpreadEndsBeforeTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 24*time.Hour)
		f.traits.Session = SessionLimits{Idle: 8 * time.Hour}
		w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
		defer w.shutdown()
		time.Sleep(time.Minute)
		lost := 0
		for range 20 {
			l, _ := f.counts()
			w.suspend(7*time.Hour + 30*time.Minute) // woken 30 min before the idle expiry
			w.a.ClockChanged()
			time.Sleep(5 * time.Hour)
			if m, _ := f.counts(); m > l {
				lost++
			}
			g := w.token("c").Current().Generation
			_ = w.token("c").Refresh(t.Context(), mgr)
			until(5*time.Hour, func() bool { return w.token("c").Current().Generation > g })
		}
		if lost > 0 {
			t.Errorf("in %d of 20 resumes the session idled out while its refresh was put off", lost)
		}
	})
}

// A machine that wakes for a minute in ten renews all the same.
func TestSpreadIsDrawnOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 4*time.Hour)
		w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
		defer w.shutdown()
		synctest.Wait()
		late := 0
		for range 24 * 6 * 7 {
			for range 60 {
				time.Sleep(time.Second)
				if w.token("c").Current().Remaining(w.now()) < 15*time.Minute { // due at 60, spread to 30, one cycle more
					late++
				}
			}
			w.suspend(9 * time.Minute)
			w.a.ClockChanged()
		}
		if late > 0 {
			t.Errorf("for %d s of %d awake readers found less than a quarter of the lead, the source being well all the time", late, 24*6*7*60)
		}
	})
}

// Nor does a clock that is ahead until it is set spend tries.
func TestClocksThatAreAheadAtBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, time.Hour)
		f.password = "wrong"
		w.run(&Spec{Name: "c", Source: f})
		for i := range 10 { // the RTC is two hours ahead until NTP comes
			time.Sleep(time.Minute)
			w.shutdown()
			w.bootID = string(rune('a' + i))
			w.stepWall(2 * time.Hour)
			w.run(&Spec{Name: "c", Source: f})
			time.Sleep(10 * time.Second)
			w.stepWall(-2 * time.Hour)
			time.Sleep(time.Minute)
		}
		w.shutdown()
		if f.bad > 2 {
			t.Errorf("%d refused logins in 20 min", f.bad)
		}
	})
}
