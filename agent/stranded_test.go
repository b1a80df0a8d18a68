package agent

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// However often a login failed while there was a token to lose, or for another
// reason: without a token the first that is misconfigured is tried again after a
// minute, and the next ones later.
func TestMisconfiguredIsCountedFromWhenItCosts(t *testing.T) {
	for name, before := range map[string]Kind{"valid": Misconfigured, "outage": Transient} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f := newFake(w.now)
				f.traits.CanRefresh, f.life = false, 10*time.Minute
				w.run(&Spec{Name: "c", Source: f})
				defer w.shutdown()
				synctest.Wait()
				w.mustValid("c")
				kind := before
				f.set(func(f *fakeSource) {
					f.fault = func(s Step) error { return &Error{Kind: kind, Step: s, Detail: "a page for people"} }
				})
				for expiry := w.token("c").Current().Expires; w.now().Boot < expiry; {
					time.Sleep(time.Second)
				}
				failed, _ := f.counts()
				if failed < 6 {
					t.Fatalf("%d logins by the expiry, want some that failed", failed)
				}
				f.set(func(*fakeSource) { kind = Misconfigured })
				time.Sleep(100 * time.Minute)
				var waits []time.Duration
				f.set(func(f *fakeSource) {
					for i := failed + 1; i < len(f.logins); i++ {
						waits = append(waits, f.logins[i].Sub(f.logins[i-1]).Round(time.Second))
					}
				})
				want := append(misconfiguredWaits[:], 35*time.Minute)
				if !slices.Equal(waits, want) {
					t.Errorf("waits of %v, want %v", waits, want)
				}
				f.set(func(f *fakeSource) { f.fault = nil })
				time.Sleep(36 * time.Minute)
				w.mustValid("c")
			})
		})
	}
}

// What asks nobody, such as a signature made here, can lock no account: however
// many tokens come of one key, none waits for another.
func TestWhatAsksNobodyIsNotBudgeted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var specs []*Spec
		for i := range 3 * loginsAMinute {
			f := newFake(w.now)
			f.traits.Fingerprint = fmt.Sprint(i)
			specs = append(specs, &Spec{Name: fmt.Sprint("t", i), Source: asksNobody{f}})
		}
		w.run(specs...)
		defer w.shutdown()
		time.Sleep(time.Second)
		for _, s := range specs {
			w.mustValid(s.Name)
		}
		if n := w.store.savesOf(BucketLedger); n != 0 {
			t.Errorf("the ledger was written %d times", n)
		}
	})
}

type asksNobody struct{ *fakeSource }

func (s asksNobody) Prepare(ctx context.Context, step Step, session Session) (*Attempt, error) {
	at, err := s.fakeSource.Prepare(ctx, step, session)
	if at != nil {
		at.Credential = Credential{}
	}
	return at, err
}

// A wait that was drawn while the token was valid ends soon after its expiry.
func TestNoWaitOutlastsTheExpiry(t *testing.T) {
	for _, life := range []time.Duration{time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour} {
		t.Run(fmt.Sprint(life), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f := long(w, life)
				f.traits.CanRefresh = false
				w.run(&Spec{Name: "c", Source: f})
				defer w.shutdown()
				synctest.Wait()
				fails(f, Misconfigured)
				w.waitInvalid("c")
				heals(f) // the portal is gone the very moment the token expires
				if d, ok := until(48*time.Hour, func() bool { return w.valid("c") }); !ok || d > 65*time.Second {
					t.Errorf("no token for %v after expiry", d)
				}
			})
		})
	}
}

// A server that hands out its cached token to the end is asked for another after
// that.
func TestCachedTokenUntilItsEnd(t *testing.T) {
	for _, life := range []time.Duration{time.Hour, 24 * time.Hour, 7 * 24 * time.Hour} {
		t.Run(fmt.Sprint(life), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f := long(w, life)
				f.traits.CanRefresh = false
				w.run(&Spec{Name: "c", Source: f})
				defer w.shutdown()
				synctest.Wait()
				f.set(func(f *fakeSource) { f.same = true })
				p := w.token("c").Current()
				for w.valid("c") {
					f.set(func(f *fakeSource) { f.life = p.Remaining(w.now()) })
					time.Sleep(time.Second)
				}
				f.set(func(f *fakeSource) { f.life, f.same = life, false })
				if d, ok := until(48*time.Hour, func() bool { return w.valid("c") }); !ok || d > 5*time.Minute+2*time.Second {
					t.Errorf("no token for %v after expiry", d)
				}
			})
		})
	}
}

// Where a reload names another source, that one's failures are not timed by the old
// one's token.
func TestMovedIsMisconfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 30*24*time.Hour)
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		synctest.Wait()
		g := long(w, time.Minute)
		g.traits.Fingerprint = "g"
		fails(g, Misconfigured)
		_ = w.a.Apply([]*Spec{{Name: "c", Source: g}}, nil)
		time.Sleep(time.Minute)
		heals(g) // a moment later the new server is up
		s := w.token("c").Status()
		t.Log(brief(s, w))
		d, ok := until(48*time.Hour, func() bool { return w.token("c").Current().Generation > 1 })
		if !ok || d > 36*time.Minute {
			t.Errorf("the new source's token came (%v) after %v", ok, d)
		}
	})
}

// One odd answer after an outage is not the last of those before it.
func TestStrandedByOneCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, time.Hour)
		f.traits.CanRefresh = false
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		synctest.Wait()
		fails(f, Misconfigured)
		w.waitInvalid("c")
		time.Sleep(2 * time.Hour)
		fails(f, Transient)
		time.Sleep(8 * time.Hour)
		once := true
		f.set(func(f *fakeSource) {
			f.fault = func(s Step) error {
				if once {
					once = false
					return &Error{Kind: Misconfigured, Step: s, Detail: "404"}
				}
				return nil
			}
		})
		d, ok := until(24*time.Hour, func() bool { return w.valid("c") })
		if !ok || d > 10*time.Minute {
			t.Errorf("valid (%v) %v after one 404", ok, d)
		}
	})
}

// A manager who has mended something may have it tried.
func TestManagersRefreshTriesWhatWaits(t *testing.T) {
	for _, kind := range []Kind{Misconfigured, NeedsHuman, Transient} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f := long(w, time.Hour)
				fails(f, kind)
				w.run(&Spec{Name: "c", Source: f})
				defer w.shutdown()
				time.Sleep(61 * time.Minute)
				heals(f)
				if err := w.token("c").Refresh(t.Context(), mgr); err != nil {
					t.Fatal(err)
				}
				most := 5 * time.Second
				if kind == Transient {
					most = loginWindow // the account's budget may be spent by the tries before
				}
				if d, ok := until(24*time.Hour, func() bool { return w.valid("c") }); !ok || d > most {
					t.Errorf("valid (%v) %v after the manager's refresh", ok, d)
				}
			})
		})
	}
}

// However many reloads came before, the one that mends is tried.
func TestMendedConfigIsTried(t *testing.T) {
	for _, kind := range []Kind{NeedsHuman, Misconfigured} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f := long(w, 24*time.Hour)
				w.run(&Spec{Name: "c", Source: f})
				defer w.shutdown()
				time.Sleep(time.Minute)
				failsBy(f, kind, SessionOver)
				w.waitInvalid("c")
				for range 24 { // an admin works on conf.d for a day
					time.Sleep(40 * time.Minute)
					_ = w.a.Apply([]*Spec{{Name: "c", Source: again{f}}}, nil)
				}
				time.Sleep(10 * time.Minute)
				heals(f)
				_ = w.a.Apply([]*Spec{{Name: "c", Source: again{f}}}, nil) // e.g. tls, proxy
				d, ok := until(24*time.Hour, func() bool { return w.valid("c") })
				if !ok || d > time.Minute {
					t.Errorf("valid (%v) %v after the config was mended", ok, d)
				}
			})
		})
	}
}

// Agents that start again and again do not ask each time for what no try brings.
func TestRestartsAskNobodyEachTime(t *testing.T) {
	for _, kind := range []Kind{NeedsHuman, Misconfigured} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			f := long(w, time.Hour)
			fails(f, kind)
			for range 120 {
				w.run(&Spec{Name: "c", Source: f})
				time.Sleep(5 * time.Second)
				w.shutdown()
			}
			if l, _ := f.counts(); l > 11 {
				t.Errorf("%s: %d logins in 10 min of restarts", kind, l)
			}
		})
	}
}

// The first start after a failure tries.
func TestOnceAfterMending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, 24*time.Hour)
		fails(f, Misconfigured)
		w.run(&Spec{Name: "c", Source: f})
		ctx := context.Background()
		if w.token("c").Settle(ctx) {
			t.Fatal("settled")
		}
		w.shutdown()
		heals(f) // ca_file mended
		time.Sleep(5 * time.Second)
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		began := time.Now()
		ok := w.token("c").Settle(ctx)
		l, _ := f.counts()
		if !ok {
			t.Errorf("run --once of a mended config gives up after %v having sent nothing (%d logins in all): %s", time.Since(began), l, brief(w.token("c").Status(), w))
		}
	})
}

// A script of a manager's that goes on and on is no manager who has mended
// something.
func TestManagerWhoGoesOnAndOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := long(w, time.Hour)
		f.traits.CanRefresh = false
		fails(f, Misconfigured)
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(time.Second)
		for range 360 {
			_ = w.token("c").Refresh(t.Context(), mgr)
			time.Sleep(10 * time.Second)
		}
		if l, _ := f.counts(); l > 20 {
			t.Errorf("%d logins in an hour that may each have been a refusal", l)
		}
	})
}
