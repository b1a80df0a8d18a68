package agent

import (
	"context"
	"errors"
	"time"
)

// signInTime bounds a login with a person, whatever the server allows them.
const signInTime = 20 * time.Minute

// ErrNoPerson says that a token's login needs nobody.
var ErrNoPerson = errors.New("its login needs no person")

// ErrNoProof says that a token is presented without a proof.
var ErrNoProof = errors.New("its source proves no key")

// ErrStopped says that a stop of the agent ended a sign-in; an *Error wraps it.
var ErrStopped = errors.New("the agent stopped before anybody signed in")

// NeedsPerson says that a login of the token is done with SignInWith alone.
func (t Token) NeedsPerson() bool {
	t.k.mu.Lock()
	defer t.k.mu.Unlock()
	_, ok := t.k.src.(PersonSource)
	return ok && t.k.src.Traits().NeedsPerson
}

// SignInWith logs in with a person's help. It calls show with what they are to
// do, and returns nil once the new token is durable and published. Where ctx ends
// first it returns ctx's error, and the login goes on as long as its prompt
// holds: who has read the code may still type it in. A further call takes the
// place of one under way. Errors of the login are *Error.
func (t Token) SignInWith(ctx context.Context, show func(Prompt)) error {
	k := t.k
	k.mu.Lock()
	src, ok := k.src.(PersonSource)
	ok = ok && src.Traits().NeedsPerson
	k.mu.Unlock()
	if !ok {
		return ErrNoPerson
	}
	prompts, done := make(chan Prompt), make(chan error, 1)
	work, end := k.a.beginSignIn(k)
	k.a.work.Add(1)
	go func() {
		defer k.a.work.Done()
		defer end()
		g, err := src.SignIn(work, func(p Prompt) {
			select {
			case prompts <- p:
			case <-ctx.Done():
			case <-work.Done():
			}
		})
		if err == nil {
			err = k.takeSignIn(src, g)
		} else if k.a.patient.Err() != nil {
			err = &Error{Kind: Transient, Step: StepLogin, Detail: ErrStopped.Error(), Hint: "once it runs again: renewd login " + k.name, Err: ErrStopped}
		} else if cause := context.Cause(work); cause == errChanged {
			err = k.changedMeanwhile()
		} else if cause == errReplaced {
			err = &Error{Kind: NeedsHuman, Step: StepLogin, Detail: "a later login of the same token took the place of this one", Hint: "use the code or the address that the later one shows"}
		}
		done <- err
	}()
	for {
		select {
		case p := <-prompts:
			show(p)
		case err := <-done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// signIn is a login with a person under way.
type signIn struct{ cancel context.CancelCauseFunc }

// Why a sign-in ended before anybody signed in.
var (
	errReplaced = errors.New("replaced by a later sign-in")
	errChanged  = errors.New("the config changed")
)

// dropSignIn ends a sign-in whose token the config has changed or removed: nobody
// is to type in a code that brings nothing.
func (a *Agent) dropSignIn(k *keeper) {
	a.signMu.Lock()
	defer a.signMu.Unlock()
	if s := a.signIns[k]; s != nil {
		s.cancel(errChanged)
	}
}

func (k *keeper) changedMeanwhile() *Error {
	return &Error{Kind: NeedsHuman, Step: StepLogin, Detail: "the config changed while you signed in", Hint: "run: renewd login " + k.name}
}

// beginSignIn ends an earlier sign-in of k and gives the context of a new one,
// which a stop of the agent ends too.
func (a *Agent) beginSignIn(k *keeper) (context.Context, func()) {
	outer, cancel := context.WithCancelCause(a.patient)
	ctx, end := context.WithTimeout(outer, signInTime)
	mine := &signIn{cancel}
	a.signMu.Lock()
	defer a.signMu.Unlock()
	if before := a.signIns[k]; before != nil {
		before.cancel(errReplaced)
	}
	a.signIns[k] = mine
	return ctx, func() {
		end()
		cancel(nil)
		a.signMu.Lock()
		defer a.signMu.Unlock()
		if a.signIns[k] == mine {
			delete(a.signIns, k)
		}
	}
}

// takeSignIn makes what a sign-in brought the token, after what is under way.
func (k *keeper) takeSignIn(src Source, g *Grant) error {
	done := make(chan error, 1)
	k.mu.Lock()
	for (k.renewing || k.leaving > 0) && !k.removed {
		changed := k.change()
		k.mu.Unlock()
		<-changed
		k.mu.Lock()
	}
	if k.removed || k.src.Traits().Fingerprint != src.Traits().Fingerprint {
		k.mu.Unlock()
		return k.changedMeanwhile()
	}
	if k.rec.loggedOut {
		k.rec.loggedOut = false
		k.login.clear()
	}
	k.start(func(ctx context.Context) {
		err := k.accept(ctx, StepLogin, src, g)
		k.after(StepLogin, err)
		if err == nil {
			k.mu.Lock()
			k.asked.wanted = false // whoever wished for another has it
			k.mu.Unlock()
		}
		done <- err
	})
	k.mu.Unlock()
	return <-done
}

// Proof makes a proof of the key that the token is bound to, for one request:
// DPoP, RFC 9449. nonce is what the API demanded, empty if nothing. It returns
// ErrNoProof where the token has no such key.
func (t Token) Proof(method, url, nonce string) (string, error) {
	src, s := t.k.session(t.k.a.now())
	if s.Token.IsZero() {
		t.k.mu.Lock()
		s.Token, s.Private = t.k.rec.token, t.k.rec.private
		t.k.mu.Unlock()
	}
	p, ok := src.(ProofSource)
	if !ok {
		return "", ErrNoProof
	}
	return p.Proof(s, method, url, nonce)
}
