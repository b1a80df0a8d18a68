package agent

import (
	"time"
)

// State says in one word how a token is. Whether its value is still accepted is
// said beside it (Status.Valid): a held token may well be valid.
type State string

const (
	StateValid      State = "valid"       // accepted, and all is well
	StateDegraded   State = "degraded"    // accepted, but its renewal or a sink fails
	StatePending    State = "pending"     // no value yet; the first is on its way
	StateExpired    State = "expired"     // not accepted any more, or never obtained
	StateHeld       State = "held"        // its secret was refused and is not tried again yet
	StateLocked     State = "locked"      // the vendor has locked the account for a while
	StateNeedsHuman State = "needs_human" // a person has to sign in
)

var states = []State{StateValid, StateDegraded, StatePending, StateExpired, StateHeld, StateLocked, StateNeedsHuman}

// States lists every State.
func States() []State { return append([]State(nil), states...) }

// Problem is why a renewal does not come about and what to do about it.
type Problem struct {
	Step   Step      `json:"step,omitempty"`
	Kind   Kind      `json:"kind"`
	Detail string    `json:"detail"`
	Hint   string    `json:"hint,omitempty"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"`  // held back until then
	Count  int       `json:"count,omitempty"` // failures of this kind in a row, since the agent started
	unsent bool      // nothing left this machine, so another try costs nothing
}

// mendable says that a manager who wants a try may just have mended what it tells of.
func (p *Problem) mendable() bool {
	switch p.Kind {
	case NeedsHuman:
		return !p.unsent // a login that only a person can do is not tried without one
	case Transient, ClockOff, Misconfigured:
		return true
	}
	return p.unsent
}

// at is p as long as its lane is held back until notBefore.
func (p Problem) at(notBefore time.Duration, now Instant) Problem {
	if !p.Until.IsZero() {
		p.Until = time.Time{}
		if notBefore > now.Boot && notBefore != forever {
			p.Until = now.At(notBefore)
		}
	}
	return p
}

// state is the State at now; k.mu is held.
func (k *keeper) state(now Instant) State {
	if p := k.login.problem; p != nil {
		switch p.Kind {
		case Rejected:
			return StateHeld
		case Locked:
			return StateLocked
		case NeedsHuman:
			return StateNeedsHuman
		}
	}
	valid := k.valid(now)
	troubled := k.login.problem != nil || k.refresh.problem != nil
	for _, d := range k.sinks {
		troubled = troubled || d.err != nil
	}
	switch {
	case valid && (troubled || k.unsaved):
		return StateDegraded
	case valid:
		return StateValid
	case k.current.Load() == nil && !troubled:
		return StatePending
	default:
		return StateExpired
	}
}

// setProblem puts a problem on a lane, and says it once when it is a new one.
// k.mu is held.
func (k *keeper) setProblem(l *lane, p *Problem) {
	before := k.state(k.a.now())
	old := l.problem
	l.problem = p
	if old == nil || old.Kind != p.Kind || old.Detail != p.Detail {
		k.a.logProblem(k.name, p)
	}
	if after := k.state(k.a.now()); after != before || old == nil || old.Kind != p.Kind {
		k.a.emit(EventState, k.name, k.rec.generation, k.rec.revision, after)
		k.wake()
	}
}

func (k *keeper) lane(step Step) *lane {
	if step == StepLogin {
		return &k.login
	}
	return &k.refresh
}

// valid says whether the published token is still accepted; k.mu is held.
func (k *keeper) valid(now Instant) bool {
	p := k.current.Load()
	return p != nil && p.Expires > now.Boot
}

// lifeOf is the life that schedules reckon with: the last known, else the
// declared one, else none.
func (k *keeper) lifeOf() time.Duration {
	if k.rec.life > 0 {
		return k.rec.life
	}
	return k.src.Traits().Life
}

// unknownLead is the lead where nothing is known yet of how long a token lives.
const unknownLead = time.Minute

// lead is the effective lead.
func (k *keeper) lead() time.Duration {
	lead, _ := k.leadCut()
	return lead
}

// leadCut is the effective lead, and whether it is shorter than was wished for: so
// that renewals stay min_interval apart, or a quarter of the life.
func (k *keeper) leadCut() (lead time.Duration, cut bool) {
	life := k.lifeOf()
	if life == 0 {
		return unknownLead, false
	}
	when := k.renewal()
	lead, cut = Lead(life, when.Before)
	if most := max(life-gap(life, when.minInterval()), life/8); lead > most {
		return most, true
	}
	return lead, cut
}

func (k *keeper) minInterval() time.Duration { return k.renewal().minInterval() }

func (k *keeper) source() Source {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.src
}

// session is what a step works from, with the source that it belongs to.
func (k *keeper) session(now Instant) (Source, Session) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := &k.rec
	if k.moved() {
		return k.src, Session{} // that of another source
	}
	return k.src, Session{
		Token: r.token, RefreshToken: r.refreshToken, Extra: r.extra, Private: r.private, Seed: r.seed, Dead: r.dead,
		Valid: r.has() && r.expiry > now.Boot,
	}
}

// view gathers what decide looks at; k.mu is held.
func (k *keeper) view(now Instant) view {
	r, t := &k.rec, k.src.Traits()
	left := -1
	if n := t.Session.MaxRefreshes; n > 0 {
		left = max(0, n-int(r.refreshes))
	}
	login, refresh := laneView{k.login.notBefore, k.login.since}, laneView{k.refresh.notBefore, k.refresh.since}
	if r.loggedOut {
		login.notBefore, refresh.notBefore = forever, forever
	}
	if k.moved() {
		// Its session is of another source, to which the config may yet go back.
		moved := *r
		moved.endSession()
		r = &moved
	}
	return view{
		now: now.Boot, has: r.has() && !k.suspect,
		issued: r.issued, expires: r.expiry, life: k.lifeOf(), lead: k.lead(), jitter: r.jitter,
		minGap: k.minInterval(), sent: k.sent,
		refreshable: t.CanRefresh && (r.loginSent != 0 || t.SelfStart),
		hardEnd:     r.hardEnd(t.Session), refreshEnd: r.refreshEnd, idleEnd: r.idleEnd, left: left,
		needsPerson: t.NeedsPerson, over: k.over, preferLogin: k.preferLogin, asked: k.isAsked(now) || k.moved(),
		login: login, refresh: refresh,
	}
}

// moved says that the published value came from another source than the config
// names now. k.mu is held.
func (k *keeper) moved() bool {
	return k.rec.has() && k.rec.fingerprint != k.src.Traits().Fingerprint
}

// keepsOther says that what the state keeps is of another source than the config names.
// It stays, for a config that goes back, until this one brings a token. k.mu is held.
func (k *keeper) keepsOther() bool { return k.foreign || k.moved() }

// ask wishes for a renewal now. k.mu is held.
func (k *keeper) ask(scheduled bool) {
	k.asked = asked{wanted: true, scheduled: scheduled, seq: k.asked.seq + 1}
}

// isAsked says that a wish for a renewal may be granted now. k.mu is held.
func (k *keeper) isAsked(now Instant) bool {
	return k.asked.wanted && (k.asked.scheduled || k.askAfter <= now.Boot)
}

// isRefused says that an API has refused the token that is current. k.mu is held.
func (k *keeper) isRefused() bool {
	return k.rec.generation != 0 && k.refused == k.rec.generation
}

// bySchedule is when the schedule alone would renew: what is due before was asked for
// by a caller. k.mu is held.
func (k *keeper) bySchedule(now Instant) time.Duration {
	v := k.view(now)
	v.asked = k.moved()
	_, at := decide(v)
	return at
}

// loginPlan is what the ledger needs to know of the login to come.
func (k *keeper) loginPlan(now Instant, t *Traits, byCaller bool) loginPlan {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.freed = false
	p := loginPlan{k: k, policy: t.Rejected, lead: k.lead(), asked: byCaller, patience: k.patience(now, &k.rec, false)}
	p.must = !k.valid(now) || k.rec.expiry-now.Boot < k.lead()/4
	if life := k.lifeOf(); !t.CanRefresh && life > 0 {
		if every := life - k.lead(); every > 0 {
			p.perMin = int(time.Minute/every) + 1
		}
	}
	return p
}

// postpone puts a step off until its host's window lets it go.
func (k *keeper) postpone(step Step, at time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lane(step).notBefore = at
}

// ways in which the world pokes a keeper
type poke int8

const (
	pokeSecret  poke = iota // a watched secret changed
	pokeAccount             // the account is free for the next login
	pokeDrift               // a sink's target was touched by someone else
	pokeSource              // what the source reads has changed (file source)
	pokeSignIn              // a manager asks for a login
)

// poke lets the keeper look again at what it waits for.
func (k *keeper) poke(p poke) {
	k.mu.Lock()
	switch p {
	case pokeSecret:
		k.epoch++
		k.free()
		k.believe()
		if k.src.Traits().SelfStart {
			k.over, k.ended = false, false
		}
	case pokeAccount:
		k.freed = true
		if k.login.account {
			k.login.account, k.login.notBefore = false, 0
		}
	case pokeDrift:
		for _, d := range k.sinks {
			d.owed = d.owed || k.valid(k.a.now())
		}
	case pokeSource:
		k.ask(true)
		k.login.notBefore = 0
	case pokeSignIn:
		k.ask(false)
		k.preferLogin, k.rec.loggedOut = true, false
		k.login.notBefore, k.refresh.notBefore = 0, 0
	}
	k.mu.Unlock()
	k.a.push(k, 0)
}

// free lets both lanes go at once. k.mu is held.
func (k *keeper) free() { k.login.notBefore, k.refresh.notBefore = 0, 0 }

// announcements are how long before a person is needed that is said.
var announcements = [...]time.Duration{7 * 24 * time.Hour, 24 * time.Hour, time.Hour}

// personNeeded is when a person has to sign in again, 0 when none has to or the
// time is not known. k.mu is held.
func (k *keeper) personNeeded(now Instant) time.Duration {
	if !k.src.Traits().NeedsPerson {
		return 0
	}
	v := k.view(now)
	if end := v.sessionEnd(); end != forever {
		return end
	}
	return 0
}

// announce says ahead of time that a person will be needed, and returns when to
// say it again. k.mu is held.
func (k *keeper) announce(now Instant) time.Duration {
	end := k.personNeeded(now)
	if end == 0 || end <= now.Boot {
		return forever
	}
	next, latest := forever, time.Duration(0)
	quarter := (end - k.rec.loginSent) / 4
	for _, ahead := range append(announcements[:], quarter) {
		at := end - ahead
		switch {
		case at <= k.rec.loginSent:
		case at <= now.Boot:
			latest = max(latest, at)
		default:
			next = min(next, at)
		}
	}
	if latest > k.announced {
		k.announced = latest
		k.a.log.Warn(MsgPersonNeeded, KeyToken, k.name, KeyAt, now.At(end), KeyHint, "run: renewd login "+k.name)
	}
	return next
}

// oldSession is the session of old as one to be ended once its readers have moved
// on, nil where it need not be. k.mu is held.
func (k *keeper) oldSession(step Step, src Source, old, next *record, now Instant) *owedLogout {
	if step != StepLogin || !src.Traits().CanLogout || !old.has() || old.fingerprint != next.fingerprint || old.token.Equal(next.token) {
		return nil
	}
	return &owedLogout{name: k.name, at: k.endOf(old, now), fingerprint: old.fingerprint, generation: old.generation,
		session: Session{Token: old.token, RefreshToken: old.refreshToken, Extra: old.extra, Private: old.private, Seed: old.seed}}
}

// endOf is when to end the session of old, whose next token is published at now. A
// reader may just have read the old one. It gets the lead to use it, but the server
// is to hear of the logout a minute before the token ends by itself; of less than
// two minutes the reader gets half. k.mu is held.
func (k *keeper) endOf(old *record, now Instant) time.Duration {
	left := max(0, old.expiry-now.Boot)
	return now.Boot + min(k.lead(), max(left-time.Minute, left/2))
}
