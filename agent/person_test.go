package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// personSource is a fake whose login a person does: approve lets them.
type personSource struct {
	*fakeSource
	approve chan bool
}

func newPerson(now Clock) *personSource {
	f := newFake(now)
	f.traits.NeedsPerson = true
	return &personSource{f, make(chan bool)}
}

func (p *personSource) Prepare(ctx context.Context, step Step, s Session) (*Attempt, error) {
	if step == StepLogin {
		return nil, &Error{Kind: NeedsHuman, Step: step, Unsent: true, Detail: "a person signs in"}
	}
	return p.fakeSource.Prepare(ctx, step, s)
}

func (p *personSource) SignIn(ctx context.Context, show func(Prompt)) (*Grant, error) {
	show(Prompt{URL: "https://id.test/device", Code: "ABCD"})
	select {
	case yes := <-p.approve:
		if !yes {
			return nil, &Error{Kind: NeedsHuman, Step: StepLogin, Detail: "they said no"}
		}
		return p.fakeSource.send(ctx, StepLogin, p.password, Session{})
	case <-ctx.Done():
		return nil, &Error{Kind: NeedsHuman, Step: StepLogin, Detail: "nobody came"}
	}
}

// signIn runs SignInWith; codes gets the prompts.
func (w *world) signIn(ctx context.Context, name string) (codes chan string, done chan error) {
	codes, done = make(chan string, 8), make(chan error, 1)
	go func() { done <- w.token(name).SignInWith(ctx, func(p Prompt) { codes <- p.Code }) }()
	return codes, done
}

func TestAPersonSignsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := newPerson(w.now)
		w.run(&Spec{Name: "c", Source: p})
		defer w.shutdown()
		time.Sleep(time.Minute)
		if st := w.token("c").Status(); st.State != StateNeedsHuman || !w.token("c").NeedsPerson() {
			t.Fatalf("before anybody signed in: %+v", st)
		}
		codes, done := w.signIn(t.Context(), "c")
		if got := <-codes; got != "ABCD" {
			t.Errorf("the prompt's code is %q", got)
		}
		p.approve <- true
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if st := w.token("c").Status(); !st.Valid || st.Generation != 1 || len(st.Problems) > 0 {
			t.Errorf("after the sign-in: %+v", st)
		}
		time.Sleep(5 * time.Minute)
		if st := w.token("c").Status(); !st.Valid || st.Generation < 5 {
			t.Errorf("the session is not refreshed: %+v", st)
		}
		// It survives a restart.
		w.shutdown()
		w.run(&Spec{Name: "c", Source: p})
		if st := w.token("c").Status(); !st.Valid {
			t.Errorf("after a restart: %+v", st)
		}
	})
}

// A second sign-in takes the place of the first, a refusal is told and changes
// nothing, who hangs up does not stop what they began, and a stop does.
func TestSignInsThatGoOtherwise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := newPerson(w.now)
		w.run(&Spec{Name: "c", Source: p}, &Spec{Name: "plain", Source: newFake(w.now)})
		if err := w.token("plain").SignInWith(t.Context(), nil); !errors.Is(err, ErrNoPerson) {
			t.Errorf("a token that needs nobody: %v", err)
		}
		first, firstDone := w.signIn(t.Context(), "c")
		<-first
		second, secondDone := w.signIn(t.Context(), "c")
		<-second
		if e, ok := errors.AsType[*Error](<-firstDone); !ok || !strings.Contains(e.Detail, "took the place") {
			t.Errorf("the first sign-in, when a second began: %v", e)
		}
		p.approve <- false
		if e, ok := errors.AsType[*Error](<-secondDone); !ok || e.Detail != "they said no" {
			t.Errorf("refused: %v", e)
		}
		ctx, hangUp := context.WithCancel(t.Context())
		codes, done := w.signIn(ctx, "c")
		<-codes
		hangUp()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("hung up: %v", err)
		}
		p.approve <- true
		synctest.Wait()
		time.Sleep(time.Second)
		if st := w.token("c").Status(); !st.Valid {
			t.Errorf("who hung up and then signed in has no token: %+v", st)
		}
		codes, done = w.signIn(t.Context(), "c")
		<-codes
		w.shutdown() // would hang if a stop waited for a person
		if err := <-done; !errors.Is(err, ErrStopped) {
			t.Errorf("a stop ended the sign-in with %v", err)
		}
	})
}

// Nobody is left to type in a code for what the config has changed or removed.
func TestSignInEndsWithAChangedConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p, other := newPerson(w.now), newPerson(w.now)
		other.traits.Fingerprint = "another"
		w.run(&Spec{Name: "c", Source: p})
		defer w.shutdown()
		for _, next := range [][]*Spec{{{Name: "c", Source: p}, {Name: "d", Source: newFake(w.now)}}, {{Name: "c", Source: other}}, nil} {
			codes, done := w.signIn(t.Context(), "c")
			<-codes
			if err := w.a.Apply(next, nil); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if len(next) == 2 {
				select {
				case err := <-done:
					t.Errorf("a reload that leaves the token alone ended its sign-in: %v", err)
				default:
				}
				p.approve <- false
				<-done
				continue
			}
			select {
			case err := <-done:
				if e, ok := errors.AsType[*Error](err); !ok || !strings.Contains(e.Detail, "the config changed") {
					t.Errorf("it ends with %v", err)
				}
			default:
				t.Fatal("it waits on")
			}
		}
	})
}

// Whoever asks for a login learns that it failed when it has, and is not told that
// it worked because the old session was refreshed instead.
func TestAwaitLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		synctest.Wait()
		ask := func() (bool, time.Duration) {
			tok := w.token("c")
			before, began := tok.Current().Revision, time.Now()
			if err := tok.SignIn(Caller{ID: "uid 0", Manager: true}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			return tok.AwaitLogin(ctx, before), time.Since(began)
		}
		time.Sleep(2 * time.Second)
		if ok, took := ask(); !ok || took > 2*time.Second {
			t.Errorf("a login that works: %v after %v", ok, took)
		}
		for _, kind := range []Kind{Transient, Misconfigured} {
			time.Sleep(2 * time.Minute)
			f.set(func(f *fakeSource) {
				f.fault = func(s Step) error {
					if s == StepLogin {
						return &Error{Kind: kind, Step: s, Detail: "it is down"}
					}
					return nil
				}
			})
			ok, took := ask()
			if st := w.token("c").Status(); ok || took > 2*time.Second || !st.Valid || len(st.Problems) == 0 || st.Problems[0].Detail != "it is down" {
				t.Errorf("%s: %v after %v, and %+v", kind, ok, took, st)
			}
			f.set(func(f *fakeSource) { f.fault = nil })
		}
	})
}

// A reload looks again whether a person is needed; nobody has tried anything by
// that.
func TestReloadsAreNoTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spec := &Spec{Name: "c", Source: newPerson(w.now)}
		w.run(spec)
		defer w.shutdown()
		for range 5 {
			time.Sleep(time.Minute)
			if err := w.a.Apply([]*Spec{spec}, nil); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		if p := w.token("c").Status().Problems; len(p) != 1 || p[0].Kind != NeedsHuman || p[0].Count != 0 {
			t.Errorf("after five reloads: %+v", p)
		}
	})
}

func TestLogoutAndSignInAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := newPerson(w.now)
		w.run(&Spec{Name: "c", Source: p})
		defer w.shutdown()
		for generation := uint64(1); generation < 4; generation++ {
			codes, done := w.signIn(t.Context(), "c")
			<-codes
			p.approve <- true
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if st := w.token("c").Status(); !st.Valid || st.Generation != generation {
				t.Fatalf("round %d: %+v", generation, st)
			}
			if err := w.token("c").Logout(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if w.token("c").Current() != nil {
				t.Fatal("there is a token after the logout")
			}
		}
	})
}
