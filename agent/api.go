package agent

import (
	"context"
	"time"
)

// Token is a handle on one configured token, for those who read it.
type Token struct {
	s *seat
	k *keeper
}

// Token finds a configured token.
func (a *Agent) Token(name string) (Token, bool) {
	return a.TokenOf([]byte(name))
}

// TokenOf is Token for a name that is still part of a larger text.
func (a *Agent) TokenOf(name []byte) (Token, bool) {
	s := a.roll.Load().find(name)
	if s == nil {
		return Token{}, false
	}
	k := s.keeper.Load()
	return Token{s, k}, k != nil
}

// Name is the token's name.
func (t Token) Name() string { return t.s.name }

// Current is what is published now, valid or not; nil before the first.
func (t Token) Current() *Publication { return t.s.current.Load() }

// Access says who may read it beside the managers; nil: nobody.
func (t Token) Access() *Access { return t.s.access.Load() }

// Now reads the agent's clock.
func (a *Agent) Now() Instant { return a.now() }

// ReadResult is what became of one read of a token.
type ReadResult int

const (
	ReadOK       ReadResult = iota
	ReadNotValid            // there was no valid token to give
	ReadDenied              // the caller may not read it
	readResults
)

// ReadResults are the names of the results, for metrics.
var readResultNames = [readResults]string{"ok", "not_valid", "denied"}

func (r ReadResult) String() string { return readResultNames[r] }

// CountRead counts one read.
func (t Token) CountRead(r ReadResult) { t.s.reads[r].Add(1) }

// Caller is who asks for something on a token's behalf.
type Caller struct {
	ID      string // "uid 1000"
	Manager bool
}

// Later says that a wish is not granted now.
type Later struct {
	Wait time.Duration
	Why  string
}

func (l *Later) Error() string { return l.Why }

// callerBudget bounds what one caller asks of one token: three in a burst, then
// ever longer apart, up to the lead.
type callerBudget struct {
	used int
	last time.Duration
}

type callerKey string

const callerBurst = 3

// afford says whether c may ask now; k.mu is held.
func (k *keeper) afford(now Instant, c Caller) error {
	if wait := k.spend(now, c.ID, k.lead()); wait > 0 {
		return &Later{wait, "this caller has asked for too many renewals of this token"}
	}
	return nil
}

// spend takes one try from a budget: three, then ever longer apart, up to most. It
// returns 0 or how long to wait for the next. k.mu is held.
func (k *keeper) spend(now Instant, id string, most time.Duration) time.Duration {
	if k.callers == nil {
		k.callers = map[callerKey]*callerBudget{}
	}
	lead := k.lead()
	for id, b := range k.callers {
		if now.Boot-b.last > 2*max(lead, defaultProbe) {
			delete(k.callers, id)
		}
	}
	b := k.callers[callerKey(id)]
	if b == nil {
		b = &callerBudget{}
		k.callers[callerKey(id)] = b
	}
	if b.used >= callerBurst {
		wait := min(time.Second<<min(b.used-callerBurst, 20), most)
		if left := b.last + wait - now.Boot; left > 0 {
			return left
		}
	}
	b.used++
	b.last = now.Boot
	return 0
}

// Refresh asks for a renewal now. A manager's refresh also ends the hold of a
// refused secret, five minutes after the last refusal, and the wait after what an
// admin may just have mended, some times in a row. It does not wait; see Await.
func (t Token) Refresh(ctx context.Context, c Caller) error {
	k := t.k
	now := k.a.now()
	k.mu.Lock()
	if k.joins() {
		k.mu.Unlock()
		return nil
	}
	if err := k.afford(now, c); err != nil {
		k.mu.Unlock()
		return err
	}
	held := k.login.problem != nil && k.login.problem.Kind == Rejected
	k.mu.Unlock()
	if held && c.Manager {
		if err := k.endHold(ctx, now); err != nil {
			return err
		}
	}
	k.mu.Lock()
	for _, l := range []*lane{&k.login, &k.refresh} {
		if p := l.problem; c.Manager && p != nil && l.notBefore > now.Boot && p.mendable() && k.spend(now, "mended, says "+c.ID, defaultProbe) == 0 {
			l.notBefore = 0
		}
	}
	k.ask(false)
	k.mu.Unlock()
	k.a.push(k, 0)
	return nil
}

// joins says that a renewal is under way whose token is still to come: a wish for one
// is granted by that. k.mu is held.
func (k *keeper) joins() bool { return k.renewing && !k.saving && !k.asked.came }

// endHold lets a refused secret be tried once more.
func (k *keeper) endHold(ctx context.Context, now Instant) error {
	src, s := k.session(now)
	at, err := src.Prepare(ctx, StepLogin, s)
	if err != nil {
		return nil // the attempt itself will say it
	}
	if wait := k.a.ledger.release(now, at.Credential, true); wait > 0 {
		return &Later{wait, "the secret was refused a short while ago; a further try could lock the account"}
	}
	k.mu.Lock()
	k.login.notBefore = 0
	k.believe()
	k.mu.Unlock()
	return nil
}

// Reject tells that an API refused a generation. Where it is the current one a
// renewal starts; where that generation was never issued here, stateReset is
// true: the state was lost since.
func (t Token) Reject(generation uint64, c Caller) (stateReset bool, err error) {
	k := t.k
	now := k.a.now()
	k.mu.Lock()
	switch {
	case generation > k.rec.generation:
		k.mu.Unlock()
		return true, nil
	case generation < k.rec.generation || k.refused == generation && (k.joins() || k.asked.wanted):
		k.mu.Unlock()
		return false, nil
	}
	if err := k.afford(now, c); err != nil {
		k.mu.Unlock()
		return false, err
	}
	if k.refused != generation {
		k.refused = generation
		k.refusedRow = min(k.refusedRow+1, 100)
		k.a.log.Warn(MsgRejected, KeyToken, k.name, KeyGeneration, generation, "caller", c.ID)
	}
	if k.refusedRow >= 2 {
		k.preferLogin = true
	}
	k.ask(false)
	k.mu.Unlock()
	k.a.push(k, 0)
	return false, nil
}

// Want asks for a renewal on behalf of a reader who needs more life than the
// current token has.
func (t Token) Want(c Caller) error {
	k := t.k
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.joins() || k.asked.wanted {
		return nil
	}
	if err := k.afford(k.a.now(), c); err != nil {
		return err
	}
	k.ask(false)
	k.a.push(k, 0)
	return nil
}

// Longest is the most life that this source's tokens are known to have, 0 when
// nothing is known.
func (t Token) Longest() time.Duration {
	t.k.mu.Lock()
	defer t.k.mu.Unlock()
	return t.k.lifeOf()
}

// SignIn asks for a login now, whatever the session.
func (t Token) SignIn(c Caller) error {
	k := t.k
	k.mu.Lock()
	err := k.afford(k.a.now(), c)
	k.mu.Unlock()
	if err != nil {
		return err
	}
	k.poke(pokeSignIn)
	return nil
}

// Logout ends the session at its server, where that can be done, and forgets
// it; the token is withdrawn and stays away until SignIn.
func (t Token) Logout(ctx context.Context) error {
	k := t.k
	k.leave()
	now := k.a.now()
	src, s := k.session(now)
	var err error
	if src.Traits().CanLogout && !s.Token.IsZero() {
		// Not cancelled by a caller that hung up.
		err = logout(context.WithoutCancel(ctx), src, s)
	}
	k.mu.Lock()
	k.rec = record{fingerprint: k.src.Traits().Fingerprint, generation: k.rec.generation, revision: k.rec.revision + 1, loggedOut: true}
	k.foreign = false
	k.current.Store(nil)
	k.over, k.ended, k.asked.wanted = false, false, false
	k.leaving--
	k.sayLoggedOut(now)
	for _, d := range k.sinks {
		d.owed, d.withdraw, d.retry = false, true, 0
		if !d.busy {
			k.deliver(d)
		}
	}
	k.wake()
	k.mu.Unlock()
	_ = k.saveOrLater(context.WithoutCancel(ctx), longestPatience)
	return err
}

// leave lets nothing new be sent, and waits for what was.
func (k *keeper) leave() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.leaving++
	k.unqueue()
	for k.renewing {
		changed := k.change()
		k.mu.Unlock()
		<-changed
		k.mu.Lock()
	}
}

// sayLoggedOut shows why there is no token and what brings it back.
func (k *keeper) sayLoggedOut(now Instant) {
	k.setProblem(&k.login, &Problem{Step: StepLogin, Kind: NeedsHuman, Detail: "logged out", Hint: "run: renewd login " + k.name, Since: now.Wall})
}

// SecretChanged tells that a watched secret of the token changed.
func (t Token) SecretChanged() { t.k.poke(pokeSecret) }

// SourceChanged tells that what the source reads has changed.
func (t Token) SourceChanged() { t.k.poke(pokeSource) }

// Drifted tells that a file of a sink was touched by someone else.
func (t Token) Drifted() { t.k.poke(pokeDrift) }
