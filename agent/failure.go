package agent

import (
	"errors"
	"time"
)

// after is the one switch over what can come of a step: it books the failure on
// its lane and says which step follows at once, if any.
func (k *keeper) after(step Step, err error) (next Step) {
	now := k.a.now()
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.lane(step)
	if err == nil {
		k.count(countOK)
		return ""
	}
	if g, ok := errors.AsType[*gated](err); ok {
		k.hold(l, step, now, g)
		return k.fallBack(step, now)
	}
	if errors.Is(err, errStore) {
		k.fail(l, now, &Error{Kind: Transient, Step: step, Detail: "the state cannot be written; nothing was sent", Hint: "see the state's error in `renewd status`", Unsent: true})
		l.notBefore = now.Boot + Backoff(int(l.failures), k.lead(), k.a.random())
		return ""
	}
	if errors.Is(err, ErrPassedOver) {
		l.clear()
		k.over, k.ended = true, true
		return k.loginUnlessPerson(now, "the session cannot be refreshed any more")
	}
	e := asError(step, err)
	k.count(e.Kind)
	if k.rec.spending && e.Kind != Ambiguous {
		k.rec.spending, k.ambiguous = false, 0 // a whole answer came: the token was not spent
		k.saveSoon()
	}
	k.fail(l, now, e)
	lead, valid := k.lead(), k.valid(now)
	backoff := Backoff(int(l.failures), lead, k.a.random())
	if h, ok := errors.AsType[*heldBack](err); ok && e.Kind != NeedsHuman && e.Kind != Ambiguous {
		wait := max(backoff, k.minInterval())
		if e.Kind == Misconfigured || e.Kind == ClockOff || e.Kind == SessionOver {
			wait = max(wait, k.misconfigured(l, now, lead))
		}
		h.gate.until = max(h.gate.until, now.Boot+wait)
		k.hold(l, step, now, h.gate)
		return k.fallBack(step, now)
	}
	switch e.Kind {
	case SessionOver:
		if step == StepLogin {
			l.notBefore = now.Boot + k.misconfigured(l, now, lead)
			return ""
		}
		k.over = true
		if k.keepsOther() {
			k.ended = true
			return k.loginUnlessPerson(now, e.Detail)
		}
		k.rec.dead = true
		if t := k.src.Traits(); t.NeedsPerson || t.SelfStart {
			k.rec.refreshToken, k.ended = Secret{}, true // the one that was refused: one renewal at a time
		}
		k.saveSoon()
		return k.loginUnlessPerson(now, e.Detail)
	case Throttled:
		l.notBefore = now.Boot + max(backoff, min(e.Wait, longestWait))
		return ""
	case Ambiguous:
		k.ambiguous = min(k.ambiguous+1, 100)
		if k.src.Traits().ReuseSafe && k.ambiguous == 1 {
			return step
		}
		if !k.keepsOther() {
			k.rec.refreshToken, k.rec.dead = Secret{}, true
			k.saveSoon()
		}
		k.over, k.ended = true, true
		return k.loginUnlessPerson(now, e.Detail)
	case Rejected, Locked:
		if step == StepRefresh {
			k.over = true
			return k.loginUnlessPerson(now, e.Detail)
		}
		l.notBefore = now.Boot + max(backoff, k.minInterval())
		return k.fallBack(step, now)
	case NeedsHuman:
		l.notBefore = forever
		return k.fallBack(step, now)
	case Misconfigured, ClockOff:
		l.notBefore = now.Boot + backoff
		if step == StepLogin {
			l.notBefore = now.Boot + k.misconfigured(l, now, lead)
		} else if k.hopeless(now) {
			return StepLogin
		}
		return k.fallBack(step, now)
	default: // Transient
		l.notBefore = now.Boot + backoff
		if err == errUnmoved {
			k.unmoved = min(k.unmoved+1, 100)
			if valid {
				l.notBefore = min(now.Boot+Unmoved(int(k.unmoved), lead, k.minInterval()), max(k.rec.expiry, l.notBefore))
			}
		}
		if step == StepRefresh && k.hopeless(now) {
			return StepLogin
		}
		return k.fallBack(step, now)
	}
}

// misconfigured is the wait after a login that cannot work as things are. While a
// valid token is at stake it may be tried more often, and no wait drawn then lasts
// beyond the expiry by more than a minute.
func (k *keeper) misconfigured(l *lane, now Instant, lead time.Duration) time.Duration {
	if left := k.rec.expiry - now.Boot; k.valid(now) && !k.moved() {
		wait := max(lead/8, Backoff(int(l.failures), lead, k.a.random()))
		return min(wait, max(left, misconfiguredWaits[0]))
	}
	l.stranded = min(l.stranded+1, uint8(len(misconfiguredWaits)))
	return misconfiguredWaits[l.stranded-1]
}

// hopeless says that refreshing has failed long enough to log in instead.
func (k *keeper) hopeless(now Instant) bool {
	v := k.view(now)
	return !v.needsPerson && v.refreshFails(now.Boot)
}

func (k *keeper) loginUnlessPerson(now Instant, why string) Step {
	if !k.src.Traits().NeedsPerson {
		return StepLogin
	}
	hint := "run: renewd login " + k.name
	if _, ok := k.src.(PersonSource); !ok && k.src.Traits().SelfStart {
		hint = "write a new refresh token where the config's refresh_token is; the agent sees it"
	}
	k.fail(&k.login, now, &Error{Kind: NeedsHuman, Step: StepLogin, Detail: why, Hint: hint, Unsent: true})
	k.login.notBefore = forever
	return ""
}

// fallBack refreshes what is left of a session whose login did not come about.
func (k *keeper) fallBack(failed Step, now Instant) Step {
	if failed != StepLogin {
		return ""
	}
	if step, at := decide(k.view(now)); step == StepRefresh && at <= now.Boot {
		return StepRefresh
	}
	return ""
}

// hold books that a step may not be sent before a time.
func (k *keeper) hold(l *lane, step Step, now Instant, g *gated) {
	if g.asked {
		k.askAfter = g.until // the wish waits, not the schedule
		return
	}
	l.notBefore = g.until
	if g.until == forever && k.freed { // it was done before we came here
		l.notBefore = now.Boot
		return
	}
	if g.until == forever {
		l.account = true // the login under way wakes us when it is done
		return
	}
	if l.since == 0 {
		l.since = now.Boot
	}
	p := &Problem{Step: step, Kind: g.kind, Detail: g.why, Hint: g.hint, Since: now.Wall, Until: now.At(g.until)}
	if old := l.problem; old != nil && (old.Kind == g.kind || g.kind == Throttled) {
		// What failed says more than that it is waited out, or that a budget is
		// spent by trying it again.
		p.Kind, p.Detail, p.Since, p.Count = old.Kind, old.Detail, old.Since, old.Count
		if old.Hint != "" {
			p.Hint = old.Hint
		}
	}
	k.setProblem(l, p)
	if g.kind == Rejected || g.kind == Locked {
		k.doubt(now)
	}
}

// doubt has a session that was refused be refreshed again where a login is refused as
// well: a server that is ill says no to everything. k.mu is held.
func (k *keeper) doubt(now Instant) {
	if !k.over || k.ended {
		return
	}
	wait := k.misconfigured(&k.refresh, now, k.lead())
	wait = min(wait, max(k.login.notBefore-now.Boot, k.minInterval())) // no later than the login
	v := k.view(now)
	v.over = false
	if !v.mayRefresh(now.Boot+wait) || k.rec.refreshToken.IsZero() && now.Boot+wait >= v.expires {
		return
	}
	k.over, k.refresh.notBefore = false, now.Boot+wait
}

// believe takes a session that was refused for over again, now that a login may work.
// k.mu is held.
func (k *keeper) believe() {
	t := k.src.Traits()
	k.over = k.over || k.rec.dead && !k.moved() && t.CanRefresh && !t.SelfStart
}

// fail books one failure on a lane.
func (k *keeper) fail(l *lane, now Instant, e *Error) {
	p := &Problem{Step: e.Step, Kind: e.Kind, Detail: e.Detail, Hint: e.Hint, Since: now.Wall, unsent: e.Unsent}
	if old := l.problem; old != nil && old.Kind == e.Kind {
		p.Since, p.Count = old.Since, old.Count
	}
	if e.Kind != NeedsHuman || !e.Unsent { // who has only looked that a person is needed has tried nothing
		l.failures++
		p.Count++
	}
	if l.since == 0 {
		l.since = now.Boot
	}
	if e.Step == StepLogin && !e.Unsent && (e.Kind == Misconfigured || e.Kind == NeedsHuman) && !k.keepsOther() {
		k.rec.retried = k.rec.tried != 0 && now.Boot-k.rec.tried < 10*time.Minute
		k.rec.tried, k.rec.forPerson = now.Boot, e.Kind == NeedsHuman
		if !k.rec.has() {
			k.rec.fingerprint = k.src.Traits().Fingerprint
		}
		k.saveSoon()
	}
	if e.Kind == Transient || e.Kind == Throttled {
		l.stranded = 0 // what was wrong is over, or hidden by another thing
	}
	k.setProblem(l, p)
}

// gated is a step that was not sent because something holds it back.
type gated struct {
	until time.Duration
	kind  Kind
	why   string
	hint  string
	asked bool // only the callers' share of a budget is spent: the schedule's own would be sent
}

func (g *gated) Error() string { return string(g.kind) + ": " + g.why }

func (v verdict) gate() *gated { return &gated{v.until, v.kind, v.why, v.hint, v.asked} }

// heldBack is a login that failed, and what that holds back from now on.
type heldBack struct {
	error
	gate *gated
}

func (h *heldBack) Unwrap() error { return h.error }
