package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestRefreshThenLoginAtTheHardLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		sink := &fakeSink{id: "fake"}
		w.run(&Spec{Name: "c", Source: f, Sinks: []Sink{sink}})
		defer w.shutdown()
		synctest.Wait()
		w.mustValid("c")
		for range 24 * 3600 {
			time.Sleep(time.Second)
			synctest.Wait()
			p := w.token("c").Current()
			if left := p.Remaining(w.now()); left < 29*time.Second {
				t.Fatalf("only %v left of generation %d", left, p.Generation)
			}
			if sink.last() != p {
				t.Fatalf("the sink lags behind")
			}
		}
		logins, refreshes := f.counts()
		if logins > 24*4*15/13+1 || logins < 24*4 {
			t.Errorf("%d logins a day; the hard limit of 15 min asks for about %d", logins, 24*4*15/14)
		}
		if refreshes < 2000 || refreshes > 3600 {
			t.Errorf("%d refreshes a day", refreshes)
		}
	})
}

func TestWrongPasswordIsTriedOnceAndHeldOverRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		f.password = "wrong"
		g := newFake(w.now)
		g.password = "wrong"
		for range 600 {
			w.run(&Spec{Name: "a", Source: f}, &Spec{Name: "b", Source: g})
			synctest.Wait()
			tok := w.token("a")
			_ = tok.Refresh(context.Background(), Caller{ID: "uid 0", Manager: true})
			time.Sleep(time.Second)
			w.shutdown()
		}
		if n := f.bad + g.bad; n > 2 {
			t.Errorf("%d bad logins in 10 min of restarts, want at most 2", n)
		}
		if n := f.bad + g.bad; n < 1 {
			t.Errorf("the secret was never tried")
		}
	})
}

func TestChangedSecretWakesAHeldToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		f.password = "wrong"
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := w.token("c").Status(); s.State != StateHeld || s.Valid {
			t.Fatalf("state %s, want held", s.State)
		}
		f.set(func(f *fakeSource) { f.password = "pw" })
		w.token("c").SecretChanged()
		synctest.Wait()
		w.mustValid("c")
		if s := w.token("c").Status(); s.State != StateValid {
			t.Fatalf("%+v", s)
		}
	})
}

func TestRestartPublishesWithoutALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		w.run(&Spec{Name: "c", Source: f})
		synctest.Wait()
		time.Sleep(10 * time.Second)
		gen := w.token("c").Current().Generation
		exp := w.token("c").Current().Expires
		w.shutdown()
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		p := w.token("c").Current()
		if p == nil || p.Generation != gen || p.Expires != exp {
			t.Fatalf("restored %+v, want generation %d expiring at %v", p, gen, exp)
		}
		if n, _ := f.counts(); n != 1 {
			t.Fatalf("%d logins, want the first alone", n)
		}
	})
}

func TestRestartAfterRebootWithAnEarlierClockRenewsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		f.slow = 3 * time.Second
		w.run(&Spec{Name: "c", Source: f})
		time.Sleep(5 * time.Second)
		w.shutdown()
		w.bootID = "boot-2"
		w.stepWall(-time.Hour)
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(time.Second)
		if p := w.token("c").Current(); p != nil {
			t.Fatalf("a token whose clocks cannot be believed was published: %+v", p)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		w.mustValid("c")
		if g := w.token("c").Current().Generation; g != 2 {
			t.Fatalf("generation %d, want 2", g)
		}
	})
}

func TestOutageKeepsTheTokenAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		f.life, f.maxAge, f.traits.Session.MaxAge = time.Hour, 0, 0
		f.maxAge = 1000 * time.Hour
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		synctest.Wait()
		f.set(func(f *fakeSource) {
			f.fault = func(s Step) error { return &Error{Kind: Transient, Step: s, Detail: "server answered 500"} }
		})
		time.Sleep(59 * time.Minute)
		synctest.Wait()
		w.mustValid("c")
		if s := w.token("c").Status(); s.State != StateDegraded || len(s.Problems) == 0 {
			t.Fatalf("%+v", s)
		}
		logins, refreshes := f.counts()
		if logins+refreshes > 90 { // two ways to try, each at most every 112 s once backed off
			t.Errorf("%d logins and %d refreshes hammered a server that is down", logins, refreshes)
		}
		f.set(func(f *fakeSource) { f.fault = nil })
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		w.mustValid("c")
		if s := w.token("c").Status(); s.State != StateValid {
			t.Fatalf("%+v", s)
		}
	})
}

func TestFullDiskDelaysNothingAndSpendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		f.rotate, f.traits.Rotates = true, true
		ok, full := &fakeSink{id: "ok"}, &fakeSink{id: "full", err: errDisk}
		w.run(&Spec{Name: "c", Source: f, Sinks: []Sink{ok, full}})
		defer w.shutdown()
		synctest.Wait()
		w.mustValid("c")
		if s := w.token("c").Status(); s.State != StateDegraded || s.Sinks[1].OK {
			t.Fatalf("%+v", s)
		}
		full.fail(nil)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if full.last() == nil || w.token("c").Status().State != StateValid {
			t.Fatalf("the sink did not recover: %+v", w.token("c").Status())
		}

		w.store.fail(errDisk)
		_, before := f.counts()
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if _, now := f.counts(); now != before {
			t.Fatalf("a refresh was spent though intent could not be written and 20 s of life were left")
		}
		time.Sleep(18 * time.Second) // now the token would lapse
		synctest.Wait()
		w.mustValid("c")
		if s := w.token("c").Status(); !s.Unsaved {
			t.Fatalf("unsaved record not shown: %+v", s)
		}
		w.store.fail(nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s := w.token("c").Status(); s.Unsaved || s.State != StateValid {
			t.Fatalf("%+v", s)
		}
	})
}

func TestRejectedTwiceLogsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		synctest.Wait()
		tok := w.token("c")
		for i := range 2 {
			time.Sleep(2 * time.Second)
			gen := tok.Current().Generation
			if _, err := tok.Reject(gen, Caller{ID: "uid 7"}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if g := tok.Current().Generation; g != gen+1 {
				t.Fatalf("round %d: generation %d after refusal of %d", i, g, gen)
			}
		}
		if n, _ := f.counts(); n != 2 {
			t.Fatalf("%d logins, want a second one after two refusals in a row", n)
		}
		if reset, _ := tok.Reject(99, Caller{ID: "uid 7"}); !reset {
			t.Error("a generation that was never issued is not reported as a lost state")
		}
	})
}

func TestSuspendRenewsWithin30Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		synctest.Wait()
		w.suspend(2 * time.Hour)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		w.mustValid("c")
	})
}

func TestWallClockStepRewritesTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		f.life, f.maxAge, f.traits.Session = time.Hour, 1000*time.Hour, SessionLimits{}
		sink := &fakeSink{id: "s"}
		w.run(&Spec{Name: "c", Source: f, Sinks: []Sink{sink}})
		defer w.shutdown()
		synctest.Wait()
		was := sink.last()
		w.stepWall(-10 * time.Minute)
		time.Sleep(31 * time.Second)
		synctest.Wait()
		p := sink.last()
		if d := was.ExpiresAt.Sub(p.ExpiresAt); d != 10*time.Minute || p.Generation != was.Generation || p.Revision <= was.Revision {
			t.Fatalf("expiry moved by %v, generation %d→%d, revision %d→%d", d, was.Generation, p.Generation, was.Revision, p.Revision)
		}
	})
}

func TestReloadKeepsOrReplacesSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f, sink := newFake(w.now), &fakeSink{id: "s"}
		f.life, f.maxAge, f.traits.Session = time.Hour, 1000*time.Hour, SessionLimits{}
		w.run(&Spec{Name: "c", Source: f, Sinks: []Sink{sink}})
		defer w.shutdown()
		synctest.Wait()
		gen := w.token("c").Current().Generation

		// Another schedule: nothing is sent.
		if err := w.a.Apply([]*Spec{{Name: "c", Source: f, Sinks: []Sink{sink}, Renew: Renew{Before: time.Minute}}}, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n, r := f.counts(); n+r != 1 || w.token("c").Current().Generation != gen {
			t.Fatalf("a changed schedule renewed the token")
		}

		// Another account: the old token stays until the new one is there.
		g := newFake(w.now)
		g.traits.Fingerprint, g.n, g.slow = "other", 100, 5*time.Second
		if err := w.a.Apply([]*Spec{{Name: "c", Source: g, Sinks: []Sink{sink}}}, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		w.mustValid("c")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if p := w.token("c").Current(); p.Token.Reveal() != "token-101" || p.Generation != gen+1 {
			t.Fatalf("generation %d after the source changed", p.Generation)
		}

		// Gone from the config: withdrawn, and its numbers are kept.
		if err := w.a.Apply(nil, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(sink.withdrawn) != 1 || sink.withdrawn[0] != WithdrawRemoved {
			t.Fatalf("withdrawn: %v", sink.withdrawn)
		}
		if err := w.a.Apply([]*Spec{{Name: "c", Source: f}}, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if g := w.token("c").Current().Generation; g != gen+2 {
			t.Fatalf("generation %d after the token came back, want %d", g, gen+2)
		}
	})
}

func TestLogoutOfTheOldSessionWaitsForItsReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		f.traits.CanLogout, f.traits.CanRefresh, f.life, f.traits.Session = true, false, time.Hour, SessionLimits{}
		w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
		time.Sleep(46 * time.Minute) // lead 15 min: renewed at 45 min
		synctest.Wait()
		if len(f.ended) != 0 {
			t.Fatal("the old session was ended while its readers still held its token")
		}
		w.shutdown() // the debt survives a restart
		w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
		defer w.shutdown()
		time.Sleep(14 * time.Minute)
		synctest.Wait()
		if len(f.ended) != 1 || f.ended[0] != "token-1" {
			t.Fatalf("ended %v", f.ended)
		}
	})
}

// Where tokens live for seconds there is no minute to spare: their readers still
// have the new token before the old one is ended, however slow the state's disk, and
// a third of the lead to use what they have read.
func TestLogoutOfAShortSessionWaitsForItsReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.slow = 300 * time.Millisecond
		sink := &fakeSink{id: "s"}
		f := newFake(w.now)
		f.traits.CanLogout, f.traits.CanRefresh, f.life, f.traits.Session = true, false, 6*time.Second, SessionLimits{}
		ended := 0
		f.ending = func(token string) {
			ended++
			p := sink.last()
			if p.Token.Reveal() == token || w.token("c").Current().Token.Reveal() == token {
				t.Errorf("%s was ended while it was published", token)
			}
			if since := w.now().Wall.Sub(p.IssuedAt); since < w.store.slow+time.Second {
				t.Errorf("%s was ended %v after the next one was asked for", token, since)
			}
		}
		w.run(&Spec{Name: "c", Source: f, Sinks: []Sink{sink}, Renew: Renew{NoJitter: true}})
		defer w.shutdown()
		time.Sleep(time.Minute)
		synctest.Wait()
		if ended < 5 {
			t.Errorf("%d sessions were ended", ended)
		}
	})
}

func TestSameTokenIsNotAskedForInALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		f.life, f.maxAge, f.traits.Session.MaxAge = 30*time.Minute, time.Hour*1000, 0
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		synctest.Wait()
		p := w.token("c").Current()
		f.set(func(f *fakeSource) {
			f.fault = nil
			f.same = true
		})
		// The same value, whose life does not grow: Life shrinks as time passes.
		go func() {
			for range 1800 {
				f.set(func(f *fakeSource) { f.life = p.Remaining(w.now()) })
				time.Sleep(time.Second)
			}
		}()
		time.Sleep(29 * time.Minute)
		logins, refreshes := f.counts()
		if logins+refreshes > 25 {
			t.Errorf("%d requests for the same token", logins+refreshes)
		}
		time.Sleep(2 * time.Minute)
	})
}

func TestHangingServerDelaysNoOtherToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		dead := newFake(w.now)
		dead.slow, dead.traits.Hosts = time.Hour, []string{"dead:443"}
		specs := []*Spec{{Name: "dead", Source: dead}}
		good := newFake(w.now)
		specs = append(specs, &Spec{Name: "good", Source: good})
		w.run(specs...)
		synctest.Wait()
		w.mustValid("good")
		for range 600 {
			time.Sleep(time.Second)
			w.mustValid("good")
		}
		w.shutdown()
	})
}

// reloaded is the same source as a reload makes it: another object.
type reloaded struct{ *fakeSource }

func TestReloadDoesNotLoseWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		f.rotate, f.traits.Rotates = true, true
		w.run(&Spec{Name: "c", Source: &reloaded{f}, Renew: Renew{NoJitter: true}})
		defer w.shutdown()
		synctest.Wait()
		f.set(func(f *fakeSource) { f.slow = 5 * time.Second })
		time.Sleep(31 * time.Second) // the refresh is under way, its token spent
		if err := w.a.Apply([]*Spec{{Name: "c", Source: &reloaded{f}, Renew: Renew{NoJitter: true}}}, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if p := w.token("c").Current(); p.Token.Reveal() != "token-2" {
			t.Fatalf("the answer was thrown away: %s is published", p.Token.Reveal())
		}
		time.Sleep(2 * time.Minute)
		if n, _ := f.counts(); n != 1 {
			t.Errorf("%d logins: the rotated refresh token was lost", n)
		}
	})
}

func TestASaveDoesNotLoseThePlaceInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hog, f := newFake(w.now), newFake(w.now)
		hog.traits.Limits, f.traits.Limits = HostLimits{Concurrency: 1}, HostLimits{Concurrency: 1}
		hog.traits.Fingerprint, hog.traits.CanRefresh = "hog", false
		w.run(&Spec{Name: "c", Source: f, Renew: Renew{NoJitter: true}})
		defer w.shutdown()
		synctest.Wait()
		// The hog takes the host's only place; c falls due meanwhile, and a slow
		// save of c is under way when its turn comes.
		hog.slow = 29 * time.Second
		time.Sleep(5 * time.Second)
		if err := w.a.Apply([]*Spec{{Name: "c", Source: f, Renew: Renew{NoJitter: true}}, {Name: "hog", Source: hog}}, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(26 * time.Second) // c is due and queued
		w.store.slowDown(2 * time.Second)
		time.Sleep(6 * time.Second) // the hog's answer came at 34 s; its two saves end at 38 s
		k := w.token("c").k
		k.mu.Lock()
		if k.queued == notQueued {
			t.Error("c is not queued: this proves nothing")
		}
		k.saveSoon()
		k.mu.Unlock()
		w.a.push(k, 0)
		time.Sleep(10 * time.Second)
		w.store.slowDown(0)
		time.Sleep(time.Minute)
		synctest.Wait()
		w.mustValid("c")
		if w.token("c").Current().Generation < 2 {
			t.Error("c was never renewed")
		}
	})
}

func TestADiskThatHangsMakesNoTokenLapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		w.run(&Spec{Name: "c", Source: f})
		synctest.Wait()
		time.Sleep(10 * time.Second)
		w.store.slowDown(3 * time.Minute)
		for range 300 {
			time.Sleep(time.Second)
			w.mustValid("c")
		}
		if s := w.token("c").Status(); !s.Unsaved {
			t.Errorf("nothing says that the state cannot be written: %+v", s)
		}
		w.store.slowDown(0)
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		w.mustValid("c")
		if s := w.token("c").Status(); s.Unsaved || s.State != StateValid {
			t.Errorf("%+v", s)
		}
		gen := w.token("c").Current().Generation
		w.shutdown()
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		if p := w.token("c").Current(); p == nil || p.Generation < gen {
			t.Errorf("generation %d was not kept", gen)
		}
	})
}
