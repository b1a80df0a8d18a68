package agent

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// again is the same source, made anew as every reload does.
type again struct{ *fakeSource }

// A reload while a renewal is under way loses nothing of its answer: the source
// that the reload made is the same one.
func TestReloadWhileRenewing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		f.rotate, f.traits.Rotates = true, true
		a := w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		synctest.Wait()
		f.set(func(f *fakeSource) { f.slow = 2 * time.Second })
		_ = w.token("c").Refresh(t.Context(), Caller{ID: "uid 0", Manager: true})
		time.Sleep(1500 * time.Millisecond) // sent, after the least gap of 1 s
		for range 3 {
			if err := a.Apply([]*Spec{{Name: "c", Source: again{f}}}, nil); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := w.token("c").Current().Token.Reveal(); got != "token-2" {
			t.Errorf("published %s, want what the refresh under way brought", got)
		}
		f.set(func(f *fakeSource) { f.slow = 0 })
		time.Sleep(5 * time.Minute)
		if logins, _ := f.counts(); logins != 1 {
			t.Errorf("%d logins: the rotated refresh token was lost", logins)
		}
	})
}

// What a source answers after the config named another one does not hold that
// one back.
func TestReloadToAnotherSourceWhileLoggingIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		f.slow = 2 * time.Second
		f.fault = func(Step) error {
			return &Error{Kind: NeedsHuman, Step: StepLogin, Detail: "a second factor is wanted"}
		}
		a := w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(time.Second)
		g := newFake(w.now)
		g.traits.Fingerprint, g.traits.Hosts = "other", []string{"other.test:443"}
		if err := a.Apply([]*Spec{{Name: "c", Source: g}}, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		w.mustValid("c")
	})
}

// A secret that changes while the old one is being tried is tried too.
func TestSecretChangedWhileTheOldOneIsTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		f.slow, f.password = 2*time.Second, "wrong"
		f.fault = func(Step) error {
			if f.password == "wrong" || f.bad == 0 {
				f.bad++
				return &Error{Kind: NeedsHuman, Step: StepLogin, Detail: "a second factor is wanted"}
			}
			return nil
		}
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(time.Second)
		f.set(func(f *fakeSource) { f.password = "pw" })
		w.token("c").SecretChanged()
		time.Sleep(30 * time.Second)
		w.mustValid("c")
	})
}

// Reloads in a loop free what is held no more often than a caller may ask.
func TestReloadStormDoesNotLogInEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		f.slow = 900 * time.Millisecond // each try sees a reload
		f.fault = func(s Step) error { return &Error{Kind: Misconfigured, Step: s, Detail: "HTML instead of JSON"} }
		a := w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		for range 600 {
			time.Sleep(time.Second)
			if err := a.Apply([]*Spec{{Name: "c", Source: again{f}}}, nil); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if logins, _ := f.counts(); logins > 30 {
			t.Errorf("%d logins in 10 min of reloads", logins)
		}
		f.set(func(f *fakeSource) { f.fault = nil })
		time.Sleep(2 * time.Minute)
		if err := a.Apply([]*Spec{{Name: "c", Source: again{f}}}, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		w.mustValid("c")
	})
}

// Who logs out while a renewal is under way is logged out, of what it brought
// too, and stays so until somebody signs in: over reloads, changed secrets and
// restarts.
func TestLogoutWhileRenewing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		f.traits.CanLogout = true
		a := w.run(&Spec{Name: "c", Source: f})
		synctest.Wait()
		f.set(func(f *fakeSource) { f.slow = 2 * time.Second })
		caller := Caller{ID: "uid 0", Manager: true}
		_ = w.token("c").Refresh(t.Context(), caller)
		time.Sleep(1500 * time.Millisecond)
		hungUp, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.token("c").Logout(hungUp); err != nil {
			t.Fatal(err)
		}
		if len(f.ended) != 1 || f.ended[0] != "token-2" {
			t.Errorf("ended %v, want the token that the renewal brought", f.ended)
		}
		f.set(func(f *fakeSource) { f.slow = 0 })
		gone := func(after string) {
			t.Helper()
			time.Sleep(2 * time.Minute)
			if p := w.token("c").Current(); p != nil {
				t.Fatalf("%s: generation %d is published", after, p.Generation)
			}
			if s := w.token("c").Status(); s.State != StateNeedsHuman {
				t.Errorf("%s: %s", after, s.State)
			}
		}
		gone("logout")
		if err := a.Apply([]*Spec{{Name: "c", Source: again{f}}}, nil); err != nil {
			t.Fatal(err)
		}
		gone("reload")
		w.token("c").SecretChanged()
		gone("a changed secret")
		_ = w.token("c").Refresh(t.Context(), caller)
		gone("refresh")
		w.shutdown()
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		gone("restart")
		if err := w.token("c").SignIn(caller); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		w.mustValid("c")
		if g := w.token("c").Current().Generation; g <= 2 {
			t.Errorf("generation %d went back", g)
		}
	})
}

// hanging is a sink whose delivery waits for a word.
type hanging struct {
	fakeSink
	gate chan struct{}
}

func (s *hanging) Deliver(ctx context.Context, p *Publication) error {
	<-s.gate
	return s.fakeSink.Deliver(ctx, p)
}

// A token that is removed while its delivery hangs is withdrawn after it, and
// holds up neither the reload nor another token.
func TestRemovalWhileDeliveryHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f, g := newFake(w.now), newFake(w.now)
		s := &hanging{fakeSink{id: "slow"}, make(chan struct{})}
		a := w.run(&Spec{Name: "c", Source: f, Sinks: []Sink{s}})
		defer w.shutdown()
		synctest.Wait()
		if err := a.Apply([]*Spec{{Name: "d", Source: g}}, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.mustValid("d")
		if len(s.withdrawn) != 0 {
			t.Error("withdrawn while a delivery was under way")
		}
		close(s.gate)
		synctest.Wait()
		if len(s.withdrawn) != 1 || s.withdrawn[0] != WithdrawRemoved {
			t.Errorf("withdrawn: %v", s.withdrawn)
		}
	})
}

// An account that is let go between the ledger's "busy" and the note that we wait
// for it is not waited for for ever.
func TestAccountLetGoBeforeItIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.run(&Spec{Name: "c", Source: newFake(w.now)})
		defer w.shutdown()
		synctest.Wait()
		k := w.token("c").k
		now := w.now()
		k.loginPlan(now, k.source().Traits(), false)
		k.poke(pokeAccount) // the other's login has ended
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.hold(&k.login, StepLogin, now, &gated{until: forever}); k.login.notBefore == forever {
			t.Error("nobody will wake it")
		}
		k.login.clear()
	})
}

// Settle does not wait for ever for a sink that cannot be written.
func TestSettleGivesUpOnADeadSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := &fakeSink{id: "dead", err: errDisk}
		w.run(&Spec{Name: "c", Source: newFake(w.now), Sinks: []Sink{s}})
		defer w.shutdown()
		began := time.Now()
		if w.token("c").Settle(t.Context()) {
			t.Error("settled with a sink that has nothing")
		}
		if d := time.Since(began); d > patience {
			t.Errorf("it took %v", d)
		}
	})
}

// Two reloads, pokes of all kinds and callers at once; run with -race.
func TestEverythingAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f, g := newFake(w.now), newFake(w.now)
		f.traits.CanLogout = true
		f.life, g.life = 3*time.Second, 300*time.Millisecond
		s := &fakeSink{id: "s"}
		spec := func(n int) []*Spec {
			all := []*Spec{{Name: "c", Source: again{f}, Sinks: []Sink{s}}, {Name: "d", Source: again{g}, Renew: Renew{MinInterval: 100 * time.Millisecond}}}
			return all[:1+n%2]
		}
		a := w.run(spec(1)...)
		defer w.shutdown()
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for n := range 100 {
					time.Sleep(time.Duration(n*i%7) * 10 * time.Millisecond)
					tok, ok := a.Token([]string{"c", "d"}[n%2])
					if !ok {
						continue
					}
					c := Caller{ID: "uid 0", Manager: true}
					switch (n + i) % 9 {
					case 0:
						_ = a.Apply(spec(n), nil)
					case 1:
						_ = tok.Refresh(t.Context(), c)
					case 2:
						_, _ = tok.Reject(uint64(n), c)
					case 3:
						tok.SecretChanged()
					case 4:
						tok.Drifted()
					case 5:
						_ = tok.Logout(t.Context())
					case 6:
						_ = tok.SignIn(c)
					case 7:
						tok.Status()
					case 8:
						w.stepWall(time.Duration(n-50) * time.Second)
					}
				}
			})
		}
		all.Wait()
		if err := a.Apply(spec(1), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute) // budgets open again
		_ = w.token("c").SignIn(Caller{ID: "uid 1", Manager: true})
		_ = w.token("d").SignIn(Caller{ID: "uid 1", Manager: true})
		time.Sleep(10 * time.Second)
		w.mustValid("c")
		w.mustValid("d")
	})
}
