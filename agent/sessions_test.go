package agent

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A server that is ill says no to everything: the session that it refused is
// refreshed again while the login is held.
func TestSessionOfAnIllServer(t *testing.T) {
	for _, c := range []struct {
		life, ill time.Duration
		rotate    bool          // a refresh token outlives the token
		most      time.Duration // without a valid token
	}{{time.Minute, 15 * time.Second, false, 0}, {10 * time.Second, 4 * time.Second, true, 2 * time.Minute}, {3 * time.Second, 2 * time.Second, true, 2 * time.Minute}} {
		t.Run(c.life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f := newFake(w.now)
				f.rotate = c.rotate
				f.life, f.maxAge, f.traits.Session = c.life, 8*time.Hour, SessionLimits{MaxAge: 8 * time.Hour}
				w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
				defer w.shutdown()
				time.Sleep(c.life / 3)
				failsBy(f, Rejected, SessionOver)
				_, r0 := f.counts()
				until(time.Minute, func() bool { _, r := f.counts(); return r > r0 })
				time.Sleep(c.ill)
				heals(f)
				l1, r1 := f.counts()
				lapsed := time.Duration(0)
				for range 3600 {
					time.Sleep(time.Second)
					if !w.valid("c") {
						lapsed += time.Second
					}
				}
				l2, r2 := f.counts()
				if lapsed > c.most {
					t.Errorf("ill for %v: no valid token for %v; after it was well %d refreshes and %d logins; the session lives for hours", c.ill, lapsed, r2-r1, l2-l1)
				}
			})
		})
	}
}

// A login that failed is not told of when the session goes on without it.
func TestLoginProblemEndsWithItsCause(t *testing.T) {
	for _, kind := range []Kind{Rejected, SessionOver, ClockOff, Transient, Locked} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f := long(w, time.Hour)
				w.run(&Spec{Name: "c", Source: f})
				defer w.shutdown()
				synctest.Wait()
				failsBy(f, kind, Transient)
				untilLogin(f)
				heals(f)
				if d, ok := until(time.Hour, func() bool { return w.token("c").Current().Generation > 1 }); !ok {
					t.Fatalf("%v %v", d, ok)
				}
				time.Sleep(24 * time.Hour)
				synctest.Wait()
				if s := w.token("c").Status(); s.State != StateValid {
					t.Errorf("a day after all is well: %s", brief(s, w))
				}
			})
		})
	}
}

// A login that was held is not told of once its secret was changed.
func TestHeldBesideAGoodSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, time.Hour)
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		synctest.Wait()
		failsBy(f, Rejected, Transient)
		untilLogin(f)
		heals(f)
		until(2*time.Hour, func() bool { return w.token("c").Current().Generation > 1 })
		time.Sleep(2 * time.Hour)
		f.set(func(f *fakeSource) { f.password, f.right = "new", "new" })
		w.token("c").SecretChanged()
		time.Sleep(24 * time.Hour)
		if s := w.token("c").Status(); s.State != StateValid {
			t.Errorf("a day after a good secret was written: %s", brief(s, w))
		}
	})
}

// A refresh that failed before it was due puts nothing at stake.
func TestFailedWishCostsNoSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 24*time.Hour)
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(time.Minute)
		fails(f, Transient)
		_ = w.token("c").Refresh(t.Context(), mgr)
		time.Sleep(5 * time.Second)
		heals(f)
		t.Log(brief(w.token("c").Status(), w))
		time.Sleep(12 * time.Hour)
		t.Log(brief(w.token("c").Status(), w))
		until(24*time.Hour, func() bool { return w.token("c").Current().Generation > 1 })
		if l, r := f.counts(); l != 1 {
			t.Errorf("%d logins, %d refreshes: a login though no refresh failed when it was due", l, r)
		}
	})
}

// A whole answer ends the row of those that were lost.
func TestAmbiguousInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, time.Hour)
		f.rotate, f.traits.Rotates, f.traits.ReuseSafe = true, true, true
		w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
		defer w.shutdown()
		synctest.Wait()
		n := 0
		f.set(func(f *fakeSource) {
			f.fault = func(s Step) error {
				if s == StepLogin {
					return nil
				}
				n++
				switch n {
				case 1, 3: // the answer is lost; shown again: a whole 503, the token unspent
					return &Error{Kind: Ambiguous, Step: s, Detail: "lost"}
				case 2:
					return &Error{Kind: Transient, Step: s, Detail: "503"}
				}
				return nil
			}
		})
		time.Sleep(2 * time.Hour)
		if l, r := f.counts(); l > 1 {
			t.Errorf("%d logins, %d refreshes: the session was dropped after one lost answer that was not tried again", l, r)
		}
	})
}

// A session that idles out before it may be refreshed brings no login forward.
func TestSessionThatNothingKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 24*time.Hour)
		f.traits.Session = SessionLimits{Idle: 30 * time.Minute}
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(10 * 24 * time.Hour)
		if l, r := f.counts(); l > 20 {
			t.Errorf("%d logins and %d refreshes in 10 days of a token of 24 h", l, r)
		}
	})
}

// A config that goes back to its source before another has brought a token goes on
// with the session.
func TestConfigPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, time.Hour)
		f.rotate, f.traits.Rotates, f.traits.NeedsPerson = true, true, false
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(time.Minute)
		g := long(w, time.Hour)
		g.traits.Fingerprint = "typo"
		fails(g, Transient)
		_ = w.a.Apply([]*Spec{{Name: "c", Source: g}}, nil)
		time.Sleep(time.Minute)
		_ = w.a.Apply([]*Spec{{Name: "c", Source: again{f}}}, nil)
		time.Sleep(3 * time.Hour)
		if l, r := f.counts(); l > 1 {
			t.Errorf("%d logins, %d refreshes: the session was thrown away", l, r)
		}
	})
}

// A server that is always slow is waited for at the first try.
func TestSlowServer(t *testing.T) {
	for _, c := range []struct{ life, slow time.Duration }{{3 * time.Second, 1200 * time.Millisecond}, {10 * time.Second, 2 * time.Second}, {time.Minute, 8 * time.Second}, {time.Minute, 12 * time.Second}} {
		t.Run(fmt.Sprint(c.life, " ", c.slow), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f := long(w, c.life)
				f.slow = c.slow
				sent := 0
				x := &countSends{f, &sent}
				w.run(&Spec{Name: "c", Source: x, Renew: Renew{NoJitter: true}})
				defer w.shutdown()
				time.Sleep(20 * time.Second)
				least, bad := c.life, 0
				for range 60 * 60 * 2 {
					time.Sleep(100 * time.Millisecond)
					p := w.token("c").Current()
					left := p.Remaining(w.now())
					least = min(least, left)
					if left <= 0 {
						bad++
					}
				}
				lead, _ := Lead(c.life, 0)
				l, r := f.counts()
				if least < lead-c.slow-500*time.Millisecond {
					t.Errorf("least left %v, want lead %v less one round trip %v; invalid %.1f%% of the time; %d answered of %d sent", least, lead, c.slow, float64(bad)/72, l+r, sent)
				}
			})
		})
	}
}

// A token that an API refused is renewed once that can be done.
func TestRefusedTokenThroughAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 24*time.Hour)
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(time.Minute)
		fails(f, Transient)
		_, _ = w.token("c").Reject(1, Caller{ID: "uid 7"})
		time.Sleep(20 * time.Second)
		heals(f)
		s := w.token("c").Status()
		t.Logf("next renewal in %v, state %s, refused %v", s.NextRenewal.Sub(w.now().Wall), s.State, s.Refused)
		d, ok := until(24*time.Hour, func() bool { return w.token("c").Current().Generation > 1 })
		if !ok || d > 6*time.Minute {
			t.Errorf("renewed %v after %v", ok, d)
		}
	})
}

// A refused token is renewed soon also for callers who go on saying so.
func TestRejectThroughAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 24*time.Hour)
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(time.Minute)
		fails(f, Transient)
		for range 360 { // an hour, every 10 s
			_, _ = w.token("c").Reject(1, Caller{ID: "uid 7"})
			time.Sleep(10 * time.Second)
		}
		heals(f)
		began := time.Now()
		for w.token("c").Current().Generation == 1 && time.Since(began) < 20*time.Hour {
			_, _ = w.token("c").Reject(1, Caller{ID: "uid 7"})
			time.Sleep(10 * time.Second)
		}
		if d := time.Since(began); d > 6*time.Minute {
			t.Errorf("the refused token was replaced %v after the outage's end", d)
		}
	})
}

// After an hour of 5xx a token is there within the longest backoff.
func TestOutageOfAnHour(t *testing.T) {
	for _, life := range []time.Duration{3 * time.Second, time.Hour, 30 * 24 * time.Hour} {
		for _, rot := range []bool{false, true} {
			t.Run(fmt.Sprint(life, rot), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					f := long(w, life)
					f.rotate, f.traits.Rotates = rot, rot
					w.run(&Spec{Name: "c", Source: f})
					defer w.shutdown()
					synctest.Wait()
					fails(f, Transient)
					w.waitInvalid("c")
					l0, r0 := f.counts()
					time.Sleep(time.Hour)
					l1, r1 := f.counts()
					heals(f)
					d, ok := until(time.Hour, func() bool { return w.valid("c") })
					t.Logf("valid (%v) %v after; %d logins, %d refreshes in the hour", ok, d, l1-l0, r1-r0)
					if !ok || d > 5*time.Minute+2*time.Second {
						t.Error("too late")
					}
				})
			})
		}
	}
}

type countSends struct {
	*fakeSource
	n *int
}

func (c *countSends) Prepare(ctx context.Context, step Step, s Session) (*Attempt, error) {
	at, err := c.fakeSource.Prepare(ctx, step, s)
	if err == nil {
		send := at.Send
		at.Send = func(ctx context.Context) (*Grant, error) { *c.n++; return send(ctx) }
	}
	return at, err
}

// One refusal is one renewal, where the value stays as well.
func TestRejectOfAnExtendedValue(t *testing.T) {
	for _, refresh := range []bool{true, false} {
		t.Run(fmt.Sprint("canRefresh ", refresh), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f := long(w, time.Hour)
				f.traits.CanRefresh, f.same = refresh, true
				s := &fakeSink{id: "s"}
				w.run(&Spec{Name: "c", Source: f, Sinks: []Sink{s}, Renew: Renew{NoJitter: true}})
				defer w.shutdown()
				time.Sleep(time.Minute)
				l0, r0 := f.counts()
				_, _ = w.token("c").Reject(1, Caller{ID: "uid 7"})
				time.Sleep(30 * time.Minute)
				l, r := f.counts()
				if l-l0+r-r0 > 3 {
					t.Errorf("one 401 told once: %d logins and %d refreshes in 30 min, %d deliveries, %d saves, rev %d", l-l0, r-r0, s.delivered(), w.store.saves, w.token("c").Current().Revision)
				}
			})
		})
	}
}

// Who signs in hears that the login failed, whatever else is wished for.
func TestAwaitLoginOfARefusedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 24*time.Hour)
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(time.Minute)
		fails(f, NeedsHuman)
		_, _ = w.token("c").Reject(1, Caller{ID: "uid 7"})
		time.Sleep(10 * time.Second)
		began := time.Now()
		rev := w.token("c").Current().Revision
		if err := w.token("c").SignIn(mgr); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		done := w.token("c").AwaitLogin(ctx, rev)
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("`renewd login` heard (%v) only after %v that the login failed: %s", done, d, brief(w.token("c").Status(), w))
		}
	})
}

// A session that is doubted holds up no login once its secret was changed.
func TestMendedSecretOfADoubtedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 24*time.Hour)
		f.rotate, f.traits.Rotates = true, true
		w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
		defer w.shutdown()
		time.Sleep(time.Minute)
		// the password is changed at the server, which ends its sessions
		f.set(func(f *fakeSource) { f.right, f.rt = "new", "none" })
		_ = w.token("c").Refresh(t.Context(), mgr)
		time.Sleep(time.Minute)
		t.Log(brief(w.token("c").Status(), w))
		f.set(func(f *fakeSource) { f.password = "new" })
		w.token("c").SecretChanged()
		d, ok := until(24*time.Hour, func() bool { return w.token("c").Status().State == StateValid })
		if !ok || d > time.Minute {
			t.Errorf("held (%v) %v after the secret was mended", ok, d)
		}
	})
}

// A session that is doubted holds up no second try of the login.
func TestServerThatLostItsSessions(t *testing.T) {
	for _, life := range []time.Duration{time.Hour, 24 * time.Hour, 30 * 24 * time.Hour} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f := long(w, life)
				f.rotate, f.traits.Rotates = true, true
				w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
				defer w.shutdown()
				time.Sleep(time.Minute)
				f.set(func(f *fakeSource) { f.rt = "none" })
				failsBy(f, Rejected, SessionOver)
				_, _ = w.token("c").Reject(1, Caller{ID: "uid 7"})
				time.Sleep(20 * time.Second)
				heals(f)
				d, ok := until(48*time.Hour, func() bool { return w.token("c").Current().Generation > 1 })
				if !ok || d > 5*time.Minute+5*time.Second {
					t.Errorf("the refused token was replaced (%v) after %v; a second try was promised after 5 min", ok, d)
				}
			})
		})
	}
}

// A session that is doubted holds up no manager.
func TestManagersRefreshOfADoubtedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 24*time.Hour)
		f.rotate, f.traits.Rotates = true, true
		w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
		defer w.shutdown()
		time.Sleep(time.Minute)
		f.set(func(f *fakeSource) { f.rt = "none" })
		failsBy(f, Rejected, SessionOver)
		_ = w.token("c").Refresh(t.Context(), mgr)
		time.Sleep(5*time.Minute + 10*time.Second)
		heals(f)
		if err := w.token("c").Refresh(t.Context(), mgr); err != nil {
			t.Fatal(err)
		}
		d, ok := until(48*time.Hour, func() bool { return w.token("c").Current().Generation > 1 })
		if !ok || d > time.Minute {
			t.Errorf("renewed (%v) %v after the manager's refresh", ok, d)
		}
	})
}

// A session that is doubted holds up no login once a neighbour's has worked.
func TestDoubtedNeighbour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 24*time.Hour)
		f.rotate, f.traits.Rotates = true, true
		g := long(w, 24*time.Hour)
		g.traits.CanRefresh, g.traits.Fingerprint = false, "g"
		w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
		defer w.shutdown()
		time.Sleep(time.Minute)
		f.set(func(f *fakeSource) { f.rt = "none" })
		failsBy(f, Rejected, SessionOver)
		_, _ = w.token("c").Reject(1, Caller{ID: "uid 7"})
		time.Sleep(20 * time.Second)
		heals(f)
		_ = w.a.Apply([]*Spec{{Name: "c", Source: again{f}, Renew: Renew{NoJitter: true}}, {Name: "g", Source: g}}, nil)
		time.Sleep(5 * time.Minute)
		w.mustValid("g")
		d, ok := until(48*time.Hour, func() bool { return w.token("c").Current().Generation > 1 })
		if !ok || d > 5*time.Minute {
			t.Errorf("renewed (%v) only after %v", ok, d)
		}
	})
}

// Another source is never handed the session of the one before.
func TestAnotherSourceGetsNoSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, time.Hour)
		f.rotate, f.traits.Rotates = true, true
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		synctest.Wait()
		g := long(w, time.Hour)
		g.traits.Fingerprint = "other"
		fails(g, Transient)
		var tries, handed atomic.Int32
		_ = w.a.Apply([]*Spec{{Name: "c", Source: watched{g, func(s Session) {
			tries.Add(1)
			if !s.RefreshToken.IsZero() || !s.Token.IsZero() {
				handed.Add(1)
			}
		}}}}, nil)
		time.Sleep(time.Minute)
		if tries.Load() == 0 || handed.Load() > 0 {
			t.Errorf("of %d tries %d were handed what the other source had given", tries.Load(), handed.Load())
		}
	})
}

// watched shows the sessions that a source is handed.
type watched struct {
	*fakeSource
	saw func(Session)
}

func (s watched) Prepare(ctx context.Context, step Step, x Session) (*Attempt, error) {
	s.saw(x)
	return s.fakeSource.Prepare(ctx, step, x)
}

// What another source answers costs nothing of the session that the config goes
// back to.
func TestPutBackAfterTheOtherFailed(t *testing.T) {
	for _, kind := range []Kind{SessionOver, Transient, Ambiguous} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f := long(w, time.Hour)
				f.rotate, f.traits.Rotates = true, true
				f.traits.NeedsPerson = true // the first login stands for the person's
				w.run(&Spec{Name: "c", Source: f})
				defer w.shutdown()
				time.Sleep(time.Minute)
				g := long(w, time.Hour)
				g.traits.Fingerprint, g.traits.SelfStart, g.traits.NeedsPerson = "typo in client_id", true, true
				fails(g, kind)
				_ = w.a.Apply([]*Spec{{Name: "c", Source: selfStart{g}}}, nil)
				time.Sleep(time.Minute)
				if l, r := g.counts(); l+r == 0 {
					t.Fatal("not sent")
				}
				_ = w.a.Apply([]*Spec{{Name: "c", Source: again{f}}}, nil)
				time.Sleep(3 * time.Hour)
				if !w.valid("c") {
					t.Errorf("the session was thrown away: %s", brief(w.token("c").Status(), w))
				}
			})
		})
	}
}

// A refresh that was under way at a reload is kept for a config that goes back.
func TestRefreshDuringAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, time.Hour)
		f.rotate, f.traits.Rotates = true, true
		f.traits.NeedsPerson = true // the first login stands for the person's
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(time.Minute)
		f.set(func(f *fakeSource) { f.slow = 5 * time.Second })
		_ = w.token("c").Refresh(t.Context(), mgr)
		time.Sleep(time.Second)
		g := long(w, time.Hour)
		g.traits.Fingerprint = "typo"
		fails(g, Misconfigured)
		_ = w.a.Apply([]*Spec{{Name: "c", Source: g}}, nil)
		time.Sleep(time.Minute)
		_ = w.a.Apply([]*Spec{{Name: "c", Source: again{f}}}, nil)
		time.Sleep(3 * time.Hour)
		if !w.valid("c") {
			t.Errorf("a refresh token that rotates was lost: %s", brief(w.token("c").Status(), w))
		}
	})
}

// A start with another source leaves the state what it has, until that one brings a
// token.
func TestRestartWithAnotherSource(t *testing.T) {
	for _, c := range []struct {
		kind      Kind
		selfStart bool
	}{{Misconfigured, false}, {NeedsHuman, false}, {Ambiguous, true}, {SessionOver, true}, {Transient, true}} {
		t.Run(string(c.kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f := long(w, 24*time.Hour)
				f.rotate, f.traits.Rotates = true, true
				w.run(&Spec{Name: "c", Source: f})
				time.Sleep(time.Minute)
				w.shutdown()
				g := long(w, 24*time.Hour)
				g.traits.Fingerprint, g.traits.SelfStart, g.rotate = "typo", c.selfStart, c.selfStart
				fails(g, c.kind)
				src := Source(g)
				if c.selfStart {
					src = spends{selfStart{g}}
				}
				w.run(&Spec{Name: "c", Source: src})
				time.Sleep(time.Minute)
				w.shutdown()
				if logins, refreshes := g.counts(); logins+refreshes == 0 {
					t.Fatal("the other source sent nothing")
				}
				w.run(&Spec{Name: "c", Source: f})
				defer w.shutdown()
				time.Sleep(time.Second)
				if l, _ := f.counts(); l > 1 {
					t.Errorf("%d logins: the still valid token and its session are lost from the state", l)
				}
			})
		})
	}
}

// spends is a source of which each refresh spends the refresh token.
type spends struct{ selfStart }

func (s spends) Prepare(ctx context.Context, step Step, x Session) (*Attempt, error) {
	x.RefreshToken = NewSecret("of the config")
	at, err := s.selfStart.Prepare(ctx, step, x)
	if at != nil {
		at.Spends = step == StepRefresh
	}
	return at, err
}

// Another source that hands out the same token is taken for the one it is.
func TestAnotherNameForOneSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 24*time.Hour)
		f.traits.CanRefresh = false
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(time.Minute)
		g := &cached{long(w, 24*time.Hour), w.token("c").Current().Token, w.token("c").Current().Expires, w}
		g.traits.Fingerprint, g.traits.CanRefresh = "alias of the same server", false
		_ = w.a.Apply([]*Spec{{Name: "c", Source: g}}, nil)
		time.Sleep(6 * time.Hour)
		if l, _ := g.counts(); l > 30 {
			t.Errorf("%d logins in 6 h of a token of 24 h", l)
		}
	})
}

// What is published can be proven until another takes its place.
func TestProofOfThePublishedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := &prover{long(w, time.Hour)}
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(time.Minute)
		if _, err := w.token("c").Proof("GET", "https://x", ""); err != nil {
			t.Fatal(err)
		}
		g := &prover{long(w, time.Hour)}
		g.traits.Fingerprint = "more scopes"
		fails(g.fakeSource, Transient)
		_ = w.a.Apply([]*Spec{{Name: "c", Source: g}}, nil)
		time.Sleep(time.Second)
		if _, err := w.token("c").Proof("GET", "https://x", ""); err != nil {
			t.Errorf("the published token cannot be presented: %v", err)
		}
	})
}

// Who signs in has granted what others wished for.
func TestSignInGrantsWishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := &personSigner{long(w, 24*time.Hour)}
		f.traits.NeedsPerson = true
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(time.Minute)
		if err := w.token("c").SignInWith(t.Context(), func(Prompt) {}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		fails(f.fakeSource, SessionOver)
		_, _ = w.token("c").Reject(w.token("c").Current().Generation, Caller{ID: "x"})
		time.Sleep(time.Minute)
		heals(f.fakeSource)
		if err := w.token("c").SignInWith(t.Context(), func(Prompt) {}); err != nil {
			t.Fatal(err)
		}
		_, r0 := f.counts()
		time.Sleep(time.Minute)
		if _, r := f.counts(); r > r0 {
			t.Errorf("%d refreshes in the minute after a person signed in", r-r0)
		}
	})
}

type selfStart struct{ *fakeSource }

func (s selfStart) Prepare(ctx context.Context, step Step, x Session) (*Attempt, error) {
	x.Valid = true
	return s.fakeSource.Prepare(ctx, step, x)
}

type cached struct {
	*fakeSource
	token Secret
	until time.Duration
	w     *world
}

func (c *cached) Prepare(ctx context.Context, step Step, s Session) (*Attempt, error) {
	at, err := c.fakeSource.Prepare(ctx, step, s)
	if err == nil {
		send := at.Send
		at.Send = func(ctx context.Context) (*Grant, error) {
			g, err := send(ctx)
			if err == nil {
				g.Token, g.Life = c.token, c.until-c.w.now().Boot
			}
			return g, err
		}
	}
	return at, err
}

type prover struct{ *fakeSource }

func (p *prover) Proof(s Session, _, _, _ string) (string, error) {
	if s.Private.IsZero() {
		return "", ErrNoProof
	}
	return "proof by " + s.Private.Reveal(), nil
}

func (p *prover) Prepare(ctx context.Context, step Step, s Session) (*Attempt, error) {
	at, err := p.fakeSource.Prepare(ctx, step, s)
	if err == nil {
		send := at.Send
		at.Send = func(ctx context.Context) (*Grant, error) {
			g, err := send(ctx)
			if err == nil {
				g.Private = NewSecret("key")
			}
			return g, err
		}
	}
	return at, err
}

type personSigner struct{ *fakeSource }

func (p *personSigner) Prepare(ctx context.Context, step Step, s Session) (*Attempt, error) {
	if step == StepLogin {
		return nil, &Error{Kind: NeedsHuman, Step: step, Detail: "a person has to sign in", Unsent: true}
	}
	return p.fakeSource.Prepare(ctx, step, s)
}

func (p *personSigner) SignIn(ctx context.Context, show func(Prompt)) (*Grant, error) {
	return p.fakeSource.send(ctx, StepLogin, "pw", Session{})
}
