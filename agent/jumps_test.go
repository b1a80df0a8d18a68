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

// A clock that is set back lets no token of before the boot live longer than was told.
func TestClockSetBackProlongsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 12*time.Hour)
		w.run(&Spec{Name: "c", Source: f})
		time.Sleep(time.Minute)
		w.shutdown()
		w.bootID = "boot-2"
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		told := w.token("c").Current().Expires
		w.stepWall(-20 * time.Hour)
		w.a.ClockChanged()
		time.Sleep(time.Minute)
		if is := w.token("c").Current().Expires; is > told {
			t.Errorf("it is said to live %v longer", is-told)
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
		w.suspend(20 * time.Minute)
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
		synctest.Wait()
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

// A clock that is ahead until it is set spends no tries.
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

// A wrong date that is put right costs no session.
func TestWrongDateForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, time.Hour)
		f.rotate, f.traits.Rotates, f.traits.NeedsPerson = true, true, true
		f.traits.Session = SessionLimits{MaxAge: 90 * 24 * time.Hour}
		p := &personNeeded{f}
		w.run(&Spec{Name: "c", Source: p})
		time.Sleep(time.Minute)
		w.shutdown()
		w.bootID = "boot-2"
		w.run(&Spec{Name: "c", Source: p})
		defer w.shutdown()
		time.Sleep(24 * time.Hour)
		w.mustValid("c")
		w.stepWall(100 * 24 * time.Hour)
		w.a.ClockChanged()
		time.Sleep(100 * time.Millisecond)
		w.stepWall(-100 * 24 * time.Hour)
		w.a.ClockChanged()
		time.Sleep(3 * time.Hour)
		if !w.valid("c") {
			t.Errorf("a person is needed: %s", brief(w.token("c").Status(), w))
		}
	})
}

// Steps to and fro move no session.
func TestClockThatStepsToAndFro(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, time.Hour)
		f.rotate, f.traits.Rotates = true, true
		f.maxAge = 30 * 24 * time.Hour
		f.traits.Session = SessionLimits{MaxAge: 30 * 24 * time.Hour}
		w.run(&Spec{Name: "c", Source: f})
		time.Sleep(time.Minute)
		w.shutdown()
		w.bootID = "boot-2"
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		before := w.token("c").Status().SessionExpiresAt
		for range 24 * 7 {
			time.Sleep(30 * time.Minute)
			w.stepWall(8 * time.Second)
			time.Sleep(30 * time.Minute)
			w.stepWall(-8 * time.Second)
		}
		time.Sleep(time.Minute)
		if d := before.Sub(w.token("c").Status().SessionExpiresAt); d > time.Minute {
			t.Errorf("after a week of steps to and fro the session's end has moved by %v", d)
		}
	})
}

// A step is counted once, whenever it comes.
func TestStepBeforeTheFirstLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 24*time.Hour)
		w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
		time.Sleep(time.Minute)
		w.shutdown()
		w.bootID = "boot-2"
		w.stepWall(-20 * time.Hour)
		a, err := New(Options{Store: w.store, Clock: w.now, BootID: w.bootID, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		w.a, w.stop, w.done = a, cancel, make(chan struct{})
		time.Sleep(time.Second)
		w.stepWall(20 * time.Hour)
		_ = a.Apply([]*Spec{{Name: "c", Source: f, Renew: Renew{NoJitter: true}}}, nil)
		before := w.token("c").Current().Expires - w.now().Boot
		go func() { defer close(w.done); _ = a.Run(ctx) }()
		defer w.shutdown()
		time.Sleep(time.Second)
		l, r := f.counts()
		if after := w.token("c").Current().Expires - w.now().Boot; l+r > 1 || (before-after) > time.Minute {
			t.Errorf("life left %v after Apply, %v after the first look; %d logins %d refreshes", before, after, l, r)
		}
	})
}

// A clock that was set while no agent ran is found out.
func TestClockSetWhileDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 12*time.Hour)
		w.run(&Spec{Name: "c", Source: f})
		time.Sleep(time.Minute)
		w.shutdown()
		time.Sleep(20 * time.Hour) // off
		w.bootID = "boot-2"
		w.stepWall(-20*time.Hour + time.Second)
		w.run(&Spec{Name: "c", Source: f})
		time.Sleep(5 * time.Second)
		// a caller wishes while the network is down; a misconfigured login is saved
		fails(f, SessionOver)
		_ = w.token("c").Refresh(t.Context(), mgr)
		time.Sleep(2 * time.Second)
		heals(f)
		w.shutdown()
		w.stepWall(20 * time.Hour) // NTP while it restarts
		l0, r0 := f.counts()
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		d, ok := until(24*time.Hour, func() bool { l, r := f.counts(); return l+r > l0+r0 })
		if !ok || d > time.Minute {
			t.Errorf("a token that died 8 h ago was published as valid for %v", d)
		}
	})
}

// A hold ends on a clock that stays wrong.
func TestClockThatStaysBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 10*time.Minute)
		f.traits.CanRefresh = false
		w.run(&Spec{Name: "c", Source: f})
		synctest.Wait()
		fails(f, Rejected)
		n, _ := f.counts()
		until(time.Hour, func() bool { m, _ := f.counts(); return m > n })
		w.shutdown()
		heals(f)
		w.bootID = "boot-2"
		w.stepWall(-30 * 365 * 24 * time.Hour)
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		d, ok := until(7*24*time.Hour, func() bool { return w.valid("c") })
		if !ok || d > 10*time.Minute {
			t.Errorf("the second try, promised within 5 min, had not come (%v) after %v: %s", ok, d, brief(w.token("c").Status(), w))
		}
	})
}

// A hold ends in time on a clock that is ahead at each boot until it is set.
func TestClockAheadAtEachBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, time.Hour)
		f.password = "wrong"
		w.stepWall(3 * time.Hour)
		w.run(&Spec{Name: "c", Source: f})
		time.Sleep(20 * time.Second)
		w.stepWall(-3 * time.Hour) // set
		time.Sleep(10 * time.Minute)
		w.shutdown()
		w.bootID = "boot-2"
		w.stepWall(3 * time.Hour) // it reads the RTC again
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(20 * time.Second)
		w.stepWall(-3 * time.Hour)
		f.set(func(f *fakeSource) { f.right = "wrong" })
		if d, ok := until(24*time.Hour, func() bool { return w.valid("c") }); !ok || d > 36*time.Minute {
			t.Errorf("the probe, due every 35 min, came (%v) after %v", ok, d)
		}
	})
}

// A step measures no token by the limits of another source.
func TestStepBesideAnotherSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 24*time.Hour)
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(time.Hour)
		g := long(w, time.Hour)
		g.traits.Fingerprint, g.traits.Session = "other", SessionLimits{MaxAge: 15 * time.Minute}
		fails(g, Transient)
		_ = w.a.Apply([]*Spec{{Name: "c", Source: g}}, nil)
		time.Sleep(time.Minute)
		w.mustValid("c")
		w.stepWall(-10 * time.Second)
		time.Sleep(40 * time.Second)
		if !w.valid("c") {
			t.Errorf("the old token, good for 23 h, is called expired by the new source's limits")
		}
	})
}

// A machine that naps does not try at each resume what cannot work.
func TestNapsAndMisconfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, time.Hour)
		f.traits.CanRefresh = false
		fails(f, Misconfigured)
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(2 * time.Hour)
		l0, _ := f.counts()
		for range 24 * 10 {
			time.Sleep(time.Minute)
			w.suspend(5 * time.Minute)
			w.a.ClockChanged()
		}
		l, _ := f.counts()
		if l-l0 > 100 {
			t.Errorf("%d misconfigured logins in 24 h of naps", l-l0)
		}
	})
}

type personNeeded struct{ *fakeSource }

func (p *personNeeded) Prepare(ctx context.Context, step Step, s Session) (*Attempt, error) {
	if step == StepLogin && p.n > 0 {
		return nil, &Error{Kind: NeedsHuman, Step: step, Detail: "a person has to sign in", Unsent: true}
	}
	return p.fakeSource.Prepare(ctx, step, s)
}
