package agent

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Lives and schedules at their edges: valid all the time where that can be had,
// and never more often than asked for.
func TestOddSchedules(t *testing.T) {
	for _, c := range []struct {
		name  string
		life  time.Duration
		renew Renew
		span  time.Duration
		gaps  bool // the config makes them unavoidable
		most  int  // requests in span
	}{
		{"300 ms", 300 * time.Millisecond, Renew{MinInterval: 100 * time.Millisecond}, time.Minute, false, 600},
		{"1 s, every 100 ms", time.Second, Renew{MinInterval: 100 * time.Millisecond}, time.Minute, false, 480},
		{"1 s, as it comes", time.Second, Renew{}, time.Minute, true, 61},
		{"10 years", 10 * 365 * 24 * time.Hour, Renew{}, 30 * 24 * time.Hour, false, 1},
		{"1000 years", 1<<63 - 1, Renew{}, 30 * 24 * time.Hour, false, 1},
		{"min_interval above the life", time.Minute, Renew{MinInterval: 2 * time.Minute}, time.Hour, true, 31},
		{"half of it jitter", time.Minute, Renew{NoJitter: true, Jitter: 0.5}, time.Hour, false, 480},
		{"before above the life", time.Minute, Renew{Before: time.Hour, NoJitter: true}, time.Hour, false, 241},
		{"before as long as the life, and jitter", time.Minute, Renew{Before: time.Minute, NoJitter: true, Jitter: 0.5}, time.Hour, false, 480},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f := newFake(w.now)
				f.life, f.maxAge, f.traits.Session.MaxAge = c.life, 1<<60, 0
				w.run(&Spec{Name: "c", Source: f, Renew: c.renew})
				defer func() { w.shutdown() }()
				synctest.Wait()
				step := min(c.life/10, c.span/100)
				for range c.span / step {
					time.Sleep(step)
					if synctest.Wait(); !c.gaps {
						w.mustValid("c")
					}
				}
				if logins, refreshes := f.counts(); logins+refreshes > c.most || logins < 1 {
					t.Errorf("%d logins and %d refreshes in %v", logins, refreshes, c.span)
				}
				w.shutdown()
				w.run(&Spec{Name: "c", Source: f, Renew: c.renew})
				time.Sleep(3 * time.Second) // a least gap
				if !c.gaps {
					w.mustValid("c")
				}
			})
		})
	}
}

// A host that takes one request an hour gets one an hour, and status says what
// is waited for.
func TestOneRequestAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		f.traits.Limits = HostLimits{Requests: 1, Per: time.Hour}
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(30 * time.Minute)
		if s := w.token("c").Status(); s.WaitingFor == "" || s.Valid {
			t.Errorf("%+v", s)
		}
		for range 100 {
			_ = w.token("c").Refresh(t.Context(), Caller{ID: "uid 0", Manager: true})
			time.Sleep(time.Minute)
		}
		if logins, refreshes := f.counts(); logins+refreshes != 3 {
			t.Errorf("%d requests in 130 min", logins+refreshes)
		}
	})
}

// Fifty tokens on one account share its ten logins a minute: none starves, and
// no minute sees more.
func TestFiftyTokensOnOneAccount(t *testing.T) {
	for _, refreshes := range []bool{true, false} {
		t.Run(fmt.Sprintf("refreshes %v", refreshes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f := newFake(w.now)
				f.life, f.traits.CanRefresh = 20*time.Minute, refreshes
				f.maxAge, f.traits.Session.MaxAge = time.Hour, time.Hour
				var specs []*Spec
				for i := range 50 {
					specs = append(specs, &Spec{Name: fmt.Sprintf("t%02d", i), Source: again{f}})
				}
				w.run(specs...)
				defer w.shutdown()
				time.Sleep(6 * time.Minute)
				for range 3 * 60 {
					time.Sleep(time.Minute)
					for _, s := range specs {
						w.mustValid(s.Name)
					}
				}
				for i := range f.logins {
					if i >= 10 && f.logins[i].Sub(f.logins[i-10]) < time.Minute {
						t.Fatalf("11 logins within %v", f.logins[i].Sub(f.logins[i-10]))
					}
				}
			})
		})
	}
}

// An answer that was lost may have spent the refresh token. Where showing it again
// is known to go unpunished (a grace period, say) it is, once; else there is a
// login.
func TestAmbiguousRefresh(t *testing.T) {
	for _, c := range []struct {
		safe              bool
		lost              int
		logins, refreshes int
	}{{true, 1, 1, 2}, {true, 2, 2, 2}, {false, 1, 2, 1}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			f := newFake(w.now)
			f.rotate, f.traits.Rotates, f.traits.ReuseSafe = true, true, c.safe
			w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
			defer w.shutdown()
			time.Sleep(10 * time.Second)
			lost := 0
			f.set(func(f *fakeSource) {
				f.fault = func(s Step) error {
					if lost++; s == StepRefresh && lost <= c.lost {
						return &Error{Kind: Ambiguous, Step: s, Detail: "the answer was lost"}
					}
					return nil
				}
			})
			time.Sleep(22 * time.Second) // the renewal is due at 30 s
			if logins, refreshes := f.counts(); logins != c.logins || refreshes != c.refreshes {
				t.Errorf("%+v: %d logins and %d refreshes", c, logins, refreshes)
			}
			if st := w.token("c").Status(); !st.Valid || st.Generation != 2 || len(st.Problems) > 0 {
				t.Errorf("%+v: %+v", c, st)
			}
		})
	}
}
