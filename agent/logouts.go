package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// owedLogout is a session to be ended at its server. It survives restarts.
type owedLogout struct {
	name        string
	fingerprint string
	generation  uint64
	session     Session
	at          time.Duration
	byWall      bool // the wall clock told at, when the machine started
	tries       int
}

const logoutTries = 5

type storedLogout struct {
	Name         string            `json:"name"`
	Fingerprint  string            `json:"fingerprint"`
	Generation   uint64            `json:"generation"`
	Token        string            `json:"token"`
	RefreshToken []byte            `json:"refresh_token,omitempty"`
	Extra        map[string]string `json:"extra,omitempty"`
	Private      string            `json:"private,omitempty"`
	Seed         string            `json:"seed,omitempty"`
	At           Mark              `json:"at"`
}

func (o *owedLogout) key() string { return fmt.Sprintf("%s/%d", o.name, o.generation) }

// change makes o durable.
func (o *owedLogout) change(now Instant, bootID string) ([]Change, error) {
	value, err := json.Marshal(storedLogout{o.name, o.fingerprint, o.generation, o.session.Token.Reveal(),
		[]byte(o.session.RefreshToken.Reveal()), o.session.Extra, o.session.Private.Reveal(), o.session.Seed, now.mark(o.at, bootID)})
	return []Change{{BucketLogouts, o.key(), value}}, err
}

// owe queues a logout, once readers have what comes after that session.
func (a *Agent) owe(o *owedLogout) {
	a.logoutMu.Lock()
	a.logouts = append(a.logouts, o)
	a.logoutMu.Unlock()
	a.poke() // it may be due before anything else
}

func (a *Agent) loadLogouts(now Instant) error {
	return a.store.Load(BucketLogouts, func(_ string, value []byte) error {
		var s storedLogout
		if err := json.Unmarshal(value, &s); err != nil {
			return fmt.Errorf("decode an owed logout: %w", err)
		}
		a.logouts = append(a.logouts, &owedLogout{name: s.Name, fingerprint: s.Fingerprint, generation: s.Generation, at: s.At.boot(now, a.bootID), byWall: s.At.BootID != a.bootID,
			session: Session{Token: NewSecret(s.Token), RefreshToken: NewSecret(string(s.RefreshToken)), Extra: s.Extra, Private: NewSecret(s.Private), Seed: s.Seed}})
		return nil
	})
}

// shiftLogouts moves those whose time the wall clock told, which stepped by d.
func (a *Agent) shiftLogouts(d time.Duration) {
	a.logoutMu.Lock()
	defer a.logoutMu.Unlock()
	for _, o := range a.logouts {
		if o.byWall {
			o.at -= d
		}
	}
}

// endSessions starts the logouts that are due and returns when the next one is.
func (a *Agent) endSessions(now Instant) time.Duration {
	a.logoutMu.Lock()
	defer a.logoutMu.Unlock()
	next, rest := forever, a.logouts[:0]
	for _, o := range a.logouts {
		if o.at > now.Boot {
			next = min(next, o.at)
			rest = append(rest, o)
			continue
		}
		var p place
		src := a.sourceOf(o.name, o.fingerprint)
		if src != nil {
			var free bool
			if p, free = a.limits.enter(src.Traits()); !free {
				rest = append(rest, o) // a place that comes free wakes the loop
				continue
			}
		}
		a.work.Add(1)
		go func() {
			defer a.work.Done()
			defer a.release(&p)
			a.endSession(a.lasting, src, o)
		}()
	}
	clear(a.logouts[len(rest):])
	a.logouts = rest
	return next
}

// endSession logs out once. What cannot be ended is left to die by itself.
func (a *Agent) endSession(ctx context.Context, src Source, o *owedLogout) {
	err := error(nil)
	if src != nil {
		err = logout(ctx, src, o.session)
	}
	if err != nil {
		e := asError(StepLogout, err)
		o.tries++
		if o.tries < logoutTries && (e.Kind == Transient || e.Kind == Throttled) {
			now := a.now()
			o.at = now.Boot + max(e.Wait, Backoff(o.tries+3, 8*time.Minute, a.random()))
			a.logoutMu.Lock()
			a.logouts = append(a.logouts, o)
			a.logoutMu.Unlock()
			a.poke()
			return
		}
		a.log.Warn(MsgLogoutFailed, KeyToken, o.name, KeyKind, e.Kind, KeyError, e.Detail)
	} else if src != nil {
		a.log.Info(MsgLoggedOut, KeyToken, o.name, KeyGeneration, o.generation)
	}
	if err := a.save(ctx, longestPatience, Change{Bucket: BucketLogouts, Key: o.key()}); err != nil {
		a.stateFailed(err)
	}
}

func logout(ctx context.Context, src Source, s Session) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	at, err := src.Prepare(ctx, StepLogout, s)
	if err != nil {
		return err
	}
	_, err = at.Send(ctx)
	return err
}
