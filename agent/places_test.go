package agent

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A reload that gives a queued token another host leaves nothing behind at the old
// one.
func TestQueuedTokenMovesToAnotherHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one := HostLimits{Concurrency: 1}
		hog := long(w, time.Hour)
		hog.traits.Limits, hog.traits.Fingerprint, hog.slow = one, "hog", 20*time.Second
		c := long(w, time.Hour)
		c.traits.Limits, c.traits.Fingerprint = one, "c"
		moved := long(w, time.Hour)
		moved.traits.Fingerprint, moved.traits.Hosts, moved.traits.Limits = "c2", []string{"other.test:443"}, one
		w.run(&Spec{Name: "hog", Source: hog})
		defer w.shutdown()
		time.Sleep(time.Second)
		_ = w.a.Apply([]*Spec{{Name: "hog", Source: hog}, {Name: "c", Source: c}}, nil)
		time.Sleep(time.Second)
		if s := w.token("c").Status(); s.WaitingFor == "" {
			t.Fatalf("%+v", s)
		}
		_ = w.a.Apply([]*Spec{{Name: "hog", Source: hog}, {Name: "c", Source: moved}}, nil)
		if d, ok := until(15*time.Second, func() bool { return w.valid("c") }); !ok {
			t.Errorf("at its new, idle host it waits %v for the old one", d)
		}
		hog.set(func(f *fakeSource) { f.slow = 0 })
		time.Sleep(time.Minute)
		fresh := long(w, time.Hour)
		fresh.traits.Limits, fresh.traits.Fingerprint = one, "fresh"
		_ = w.a.Apply([]*Spec{{Name: "hog", Source: hog}, {Name: "c", Source: moved}, {Name: "fresh", Source: fresh}}, nil)
		if d, ok := until(24*time.Hour, func() bool { return w.valid("fresh") }); !ok {
			t.Errorf("the old host is blocked for %v: %s", d, brief(w.token("fresh").Status(), w))
		}
	})
}

// Limits that a reload takes away, or raises, hold nobody any more.
func TestLimitsThatGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 10*time.Minute)
		w.run()
		defer w.shutdown()
		_ = w.a.Apply([]*Spec{{Name: "c", Source: f}}, map[string]HostLimits{"api.test:443": {Requests: 1, Per: 6 * time.Hour}})
		w.waitInvalidAfterFirst("c")
		t.Log(brief(w.token("c").Status(), w))
		_ = w.a.Apply([]*Spec{{Name: "c", Source: f}}, nil)
		if d, ok := until(24*time.Hour, func() bool { return w.valid("c") }); !ok || d > time.Minute {
			t.Errorf("hosts: removed: valid (%v) after %v", ok, d)
		}
		for range 3600 {
			time.Sleep(time.Second)
			w.mustValid("c")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 10*time.Minute)
		f.traits.Limits = HostLimits{Requests: 1, Per: 6 * time.Hour}
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		w.waitInvalidAfterFirst("c")
		g := long(w, 10*time.Minute)
		g.traits.Limits = HostLimits{Requests: 100, Per: 6 * time.Hour}
		_ = w.a.Apply([]*Spec{{Name: "c", Source: g}}, nil)
		if d, ok := until(24*time.Hour, func() bool { return w.valid("c") }); !ok || d > time.Minute {
			t.Errorf("limits: of the source raised: valid (%v) after %v", ok, d)
		}
	})
}

// Whoever only waits for an account has sent nothing, and spends nothing of its
// host's window.
func TestWaitersForAnAccountSpendNoWindow(t *testing.T) {
	for _, n := range []int{10, 20, 40} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f := long(w, 4*time.Hour)
				f.slow = 400 * time.Millisecond
				f.traits.Limits = HostLimits{Requests: 100, Per: 5 * time.Minute}
				var specs []*Spec
				for i := range n {
					specs = append(specs, &Spec{Name: fmt.Sprint("t", i), Source: again{f}})
				}
				w.run(specs...)
				defer w.shutdown()
				time.Sleep(30 * time.Second)
				w.a.limits.mu.Lock()
				h := w.a.limits.hosts["api.test:443"]
				booked := len(h.sent)
				w.a.limits.mu.Unlock()
				l, r := f.counts()
				d, ok := until(2*time.Hour, func() bool {
					for _, s := range specs {
						if !w.valid(s.Name) {
							return false
						}
					}
					return true
				})
				w.a.limits.mu.Lock()
				total := h.booked
				w.a.limits.mu.Unlock()
				l2, _ := f.counts()
				t.Logf("after 30 s: %d requests sent, %d booked in the window; all valid (%v) after %v more; %d booked for %d sent", l+r, booked, ok, d, total, l2)
				if total > 2*n {
					t.Errorf("%d tokens: %d requests counted, %d sent", n, total, l2)
				}
			})
		})
	}
}

// A place that comes free while the token is saved is not lost to it.
func TestPlaceThatComesDuringASave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 9*time.Minute)
		f.traits.Limits = HostLimits{Requests: 1, Per: 5 * time.Minute}
		w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
		defer w.shutdown()
		time.Sleep(time.Second)
		// the window is spent just now by a caller; c is due at 4.5 min+
		time.Sleep(4*time.Minute + 50*time.Second) // due at 4.5 min, queued until 5 min
		t.Log(brief(w.token("c").Status(), w))
		time.Sleep(7500 * time.Millisecond)
		w.store.slowDown(4 * time.Second)
		k := w.token("c").k
		k.mu.Lock()
		k.saveSoon()
		k.mu.Unlock()
		w.a.push(k, 0)
		time.Sleep(10 * time.Second)
		w.store.slowDown(0)
		l, r := f.counts()
		t.Log(l, r, brief(w.token("c").Status(), w))
		bad := w.lapsed("c", 10*time.Minute)
		if bad > 0 {
			t.Errorf("no valid token for %v", bad)
		}
	})
}

// Who waits for a window says when it opens, and that the token lapses before.
func TestStatusOfTheQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 10*time.Minute)
		f.traits.Limits = HostLimits{Requests: 1, Per: 6 * time.Hour}
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(9 * time.Minute)
		s := w.token("c").Status()
		if !s.Lapses || s.NextRenewal.Before(w.now().Wall.Add(time.Hour)) {
			t.Errorf("lapses %v, next renewal in %v; the window opens in 5 h 51 min", s.Lapses, s.NextRenewal.Sub(w.now().Wall))
		}
	})
}

// Tokens whose server hangs take turns with the good one, which never lapses, however
// few places there are.
func TestTokensThatHangStarveNobody(t *testing.T) {
	for _, c := range []struct{ hang, places int }{{17, 0}, {5, 2}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				good := long(w, time.Hour)
				good.traits.Limits.Concurrency = c.places
				specs := []*Spec{{Name: "good", Source: good}}
				w.run(specs...)
				defer w.shutdown()
				synctest.Wait()
				for i := range c.hang {
					h := long(w, time.Hour)
					h.slow, h.traits.Fingerprint, h.traits.Limits = time.Hour, "hang", good.traits.Limits
					specs = append(specs, &Spec{Name: fmt.Sprint("h", i), Source: &principal{h, fmt.Sprint("p", i)}})
				}
				_ = w.a.Apply(specs, nil)
				if bad := w.lapsed("good", 2*time.Hour); bad > 0 {
					t.Errorf("good has no valid token for %v of two hours", bad)
				}
			})
		})
	}
}

// Tokens that fail unsent leave the window to the good one.
func TestFailingTokensLeaveTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		lim := HostLimits{Requests: 100, Per: 5 * time.Minute}
		good := long(w, time.Hour)
		good.traits.Limits = lim
		specs := []*Spec{{Name: "good", Source: good}}
		w.run(specs...)
		defer w.shutdown()
		synctest.Wait()
		for i := range 4 {
			h := long(w, time.Hour)
			h.traits.Limits, h.traits.Fingerprint = lim, "h"
			h.fault = func(s Step) error {
				return &Error{Kind: Transient, Step: s, Detail: "the proxy did not connect", Unsent: true}
			}
			specs = append(specs, &Spec{Name: fmt.Sprint("h", i), Source: &principal{h, fmt.Sprint("p", i)}})
		}
		_ = w.a.Apply(specs, nil)
		bad := w.lapsed("good", 2*time.Hour)
		if bad > 0 {
			t.Errorf("good has no valid token for %v of two hours", bad)
		}
	})
}

// What never left this machine is not counted as sent.
func TestUnsentSpendsNoWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, time.Hour)
		f.traits.CanRefresh = false
		f.traits.Limits = HostLimits{Requests: 20, Per: 4 * time.Hour} // five times what the schedule needs
		w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
		defer w.shutdown()
		time.Sleep(44 * time.Minute)
		f.set(func(f *fakeSource) {
			f.fault = func(s Step) error { return &Error{Kind: Transient, Step: s, Detail: "no route", Unsent: true} }
		})
		time.Sleep(40 * time.Minute) // the network is away
		heals(f)
		t.Log(brief(w.token("c").Status(), w))
		d, ok := until(10*time.Hour, func() bool { return w.valid("c") })
		if !ok || d > 6*time.Minute {
			t.Errorf("valid (%v) %v after the network was back, though nothing had been sent", ok, d)
		}
	})
}

// Where the session turns out to be over, the login is the schedule's, whoever
// asked.
func TestCallersShareHoldsNoLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		f.maxAge, f.traits.Session = 1<<60, SessionLimits{}
		f.traits.Limits = HostLimits{Requests: 30, Per: 5 * time.Minute}
		w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
		defer w.shutdown()
		time.Sleep(5 * time.Second)
		for i := range 9 { // several callers
			g := w.token("c").Current().Generation
			_ = w.token("c").Refresh(t.Context(), Caller{ID: fmt.Sprint("uid ", i)})
			until(time.Minute, func() bool { return w.token("c").Current().Generation > g })
		}
		failsBy(f, "", SessionOver)
		time.Sleep(2 * time.Second)
		_, _ = w.token("c").Reject(w.token("c").Current().Generation, Caller{ID: "uid 77"})
		time.Sleep(3 * time.Second)
		t.Log(brief(w.token("c").Status(), w))
		lapsed := w.lapsed("c", 400*time.Second)
		if l, r := f.counts(); lapsed > 0 {
			t.Errorf("no valid token for %v; %d requests of 30 were sent", lapsed, l+r)
		}
	})
}

// Many callers who refuse each token hold up no renewal that is due.
func TestCallersShareHoldsNoSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 20*time.Second)
		f.traits.CanRefresh = false
		w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
		defer w.shutdown()
		time.Sleep(2 * time.Second)
		bad := 0
		for i := range 60 {
			_, _ = w.token("c").Reject(w.token("c").Current().Generation, Caller{ID: string(rune('a' + i%20))})
			for range 20 {
				time.Sleep(100 * time.Millisecond)
				if !w.valid("c") {
					bad++
				}
			}
		}
		l, _ := f.counts()
		if bad > 0 {
			t.Errorf("no valid token for %d tenths of a second of 1200; %d logins in 2 min", bad, l)
		}
	})
}

// One caller who goes on refusing holds up no renewal either.
func TestOneCallerHoldsNoSchedule(t *testing.T) {
	for _, life := range []time.Duration{20 * time.Second, time.Minute} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f := long(w, life)
				f.traits.CanRefresh = false
				w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
				defer w.shutdown()
				time.Sleep(2 * time.Second)
				bad := 0
				for range 6000 {
					_, _ = w.token("c").Reject(w.token("c").Current().Generation, Caller{ID: "one"})
					time.Sleep(100 * time.Millisecond)
					if !w.valid("c") {
						bad++
					}
				}
				l, _ := f.counts()
				if bad > 0 {
					t.Errorf("no valid token for %d tenths of a second of 6000; %d logins in 10 min", bad, l)
				}
			})
		})
	}
}

// A token that logs in often takes none of the budget that its neighbour on the
// account needs.
func TestNeighbourOfShortLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		fast, slow := long(w, 8*time.Second), long(w, time.Hour)
		fast.traits.CanRefresh, slow.traits.CanRefresh = false, false
		slow.traits.Fingerprint = "slow"
		w.run(&Spec{Name: "fast", Source: fast}, &Spec{Name: "slow", Source: slow})
		defer w.shutdown()
		lapsed := 0
		for range 3 * 60 {
			time.Sleep(time.Minute)
			if !w.valid("slow") {
				lapsed++
			}
		}
		l, _ := slow.counts()
		m, _ := fast.counts()
		if lapsed > 1 {
			t.Errorf("slow has no valid token in %d of 180 minutes, %d logins; fast %d logins", lapsed, l, m)
		}
	})
}

// However many logouts are owed, a host sees no more at once than it sees renewals.
func TestLogoutsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var specs []*Spec
		f := long(w, time.Hour)
		f.traits.CanRefresh, f.traits.CanLogout = false, true
		x := &countLogouts{fakeSource: f}
		for i := range 60 {
			specs = append(specs, &Spec{Name: fmt.Sprint("t", i), Source: x})
		}
		w.run(specs...)
		time.Sleep(55 * time.Minute)
		w.shutdown()
		time.Sleep(20 * time.Minute)
		x.most.Store(0)
		w.run(specs...)
		defer w.shutdown()
		time.Sleep(10 * time.Second)
		if most := x.most.Load(); most == 0 || most > defaultConcurrency {
			t.Errorf("%d logouts at once to one host", most)
		}
	})
}

type countLogouts struct {
	*fakeSource
	most, now atomic.Int32
}

func (c *countLogouts) Prepare(ctx context.Context, step Step, s Session) (*Attempt, error) {
	at, err := c.fakeSource.Prepare(ctx, step, s)
	if err != nil || step != StepLogout {
		return at, err
	}
	send := at.Send
	at.Send = func(ctx context.Context) (*Grant, error) {
		now := c.now.Add(1)
		defer c.now.Add(-1)
		if now > c.most.Load() { // the last to begin sees the most
			c.most.Store(now)
		}
		time.Sleep(time.Second)
		return send(ctx)
	}
	return at, nil
}

// principal is a source whose logins are another account's.
type principal struct {
	Source
	who string
}

func (p *principal) Prepare(ctx context.Context, step Step, s Session) (*Attempt, error) {
	at, err := p.Source.Prepare(ctx, step, s)
	if err == nil {
		at.Credential.Principal = p.who
	}
	return at, err
}

// What follows a caller's renewal waits for the callers' share, and the schedule
// does not.
func TestCallersShareHoldsNoSecondStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 10*time.Minute)
		f.traits.Limits = HostLimits{Requests: 30, Per: time.Hour}
		w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
		defer w.shutdown()
		time.Sleep(5 * time.Second)
		for i := range 9 {
			g := w.token("c").Current().Generation
			_ = w.token("c").Refresh(t.Context(), Caller{ID: fmt.Sprint("uid ", i)})
			until(time.Minute, func() bool { return w.token("c").Current().Generation > g })
		}
		// a wish to sign in is refused; the session would do
		f.set(func(f *fakeSource) { f.slow = 1500 * time.Millisecond })
		failsBy(f, Rejected, "")
		_ = w.token("c").SignIn(mgr)
		time.Sleep(2 * time.Second)
		t.Log(brief(w.token("c").Status(), w))
		lapsed := w.lapsed("c", time.Hour)
		if l, r := f.counts(); lapsed > 0 {
			t.Errorf("no valid token for %v; %d logins %d refreshes", lapsed, l, r)
		}
	})
}

// A wish that waits is granted by the renewal that comes first.
func TestWishGrantedByTheSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 40*time.Second)
		f.traits.CanRefresh = false
		w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
		defer w.shutdown()
		time.Sleep(5 * time.Second)
		for i := range 5 {
			_ = w.token("c").Refresh(t.Context(), Caller{ID: fmt.Sprint(i)})
			time.Sleep(2 * time.Second)
		}
		time.Sleep(80 * time.Second)
		f.mu.Lock()
		defer f.mu.Unlock()
		for i := 6; i < len(f.logins); i++ {
			if d := f.logins[i].Sub(f.logins[i-1]); d < 19*time.Second {
				t.Errorf("login %d only %v after the one before it, though nobody has asked since: %v", i, d, f.logins)
			}
		}
	})
}

// Logouts that hang leave renewals their places.
func TestLogoutsThatHang(t *testing.T) {
	for _, life := range []time.Duration{30 * time.Second} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				var specs []*Spec
				for i := range 40 {
					f := long(w, life)
					f.traits.CanRefresh, f.traits.CanLogout = false, true
					f.traits.Fingerprint = fmt.Sprint(i)
					specs = append(specs, &Spec{Name: fmt.Sprint("t", i), Source: &principal{&hangLogout{f}, fmt.Sprint("p", i)}})
				}
				w.run(specs...)
				defer w.shutdown()
				time.Sleep(20 * time.Second)
				bad := 0
				for range 10 * 60 {
					time.Sleep(time.Second)
					for _, s := range specs {
						if !w.valid(s.Name) {
							bad++
						}
					}
				}
				if bad > 0 {
					t.Errorf("no valid token for %d token seconds of %d, though logins are well", bad, 10*60*len(specs))
				}
			})
		})
	}
}

// Logouts that hang leave renewals their place where there is only one.
func TestLogoutThatHangsInOnePlace(t *testing.T) {
	for _, life := range []time.Duration{time.Minute, 5 * time.Minute} {
		for _, n := range []int{1, 3} {
			t.Run(fmt.Sprint(life, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					var specs []*Spec
					for i := range n {
						f := long(w, life)
						f.traits.CanRefresh, f.traits.CanLogout, f.traits.Limits = false, true, HostLimits{Concurrency: 1}
						f.traits.Fingerprint = fmt.Sprint(i)
						specs = append(specs, &Spec{Name: fmt.Sprint("t", i), Source: &principal{&hangLogout{f}, fmt.Sprint("p", i)}})
					}
					w.run(specs...)
					defer w.shutdown()
					time.Sleep(20 * time.Second)
					bad := 0
					for range 3600 {
						time.Sleep(time.Second)
						for _, s := range specs {
							if !w.valid(s.Name) {
								bad++
							}
						}
					}
					if bad > 0 {
						t.Errorf("no valid token for %d token seconds of %d, though logins are well", bad, 3600*n)
					}
				})
			})
		}
	}
}

type hangLogout struct{ *fakeSource }

func (c *hangLogout) Prepare(ctx context.Context, step Step, s Session) (*Attempt, error) {
	at, err := c.fakeSource.Prepare(ctx, step, s)
	if err == nil && step == StepLogout {
		at.Send = func(ctx context.Context) (*Grant, error) {
			<-ctx.Done()
			return nil, &Error{Kind: Transient, Step: step, Detail: "timed out"}
		}
	}
	return at, err
}
