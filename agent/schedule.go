package agent

import "time"

// forever is a time on the boot clock that never comes: a lane held until a
// poke.
const forever = time.Duration(1<<63 - 1)

// Renew is a token's renewal schedule (`renew:` in the config).
type Renew struct {
	Before      time.Duration // wished lead; 0: the default of Lead
	NoJitter    bool          // jitter was set, to Jitter; else it is a tenth
	Jitter      float64       // fraction of the life, where NoJitter is set
	MinInterval time.Duration // least time between two renewals; 0: 1 s
}

func (r Renew) minInterval() time.Duration {
	if r.MinInterval > 0 {
		return r.MinInterval
	}
	return time.Second
}

func (r Renew) jitter() float64 {
	if r.NoJitter {
		return r.Jitter
	}
	return 0.10
}

// Lead is how long before the access expiry a renewal starts, for a token that
// lives life: before where it is set, else the larger of life/4 and the smaller
// of 15 min and life/2. It is never above 3/4 of life; cut says that it was
// shortened to that.
func Lead(life, before time.Duration) (lead time.Duration, cut bool) {
	lead = before
	if lead <= 0 {
		lead = max(life/4, min(15*time.Minute, life/2))
	}
	if most := life / 4 * 3; lead > most {
		return most, true
	}
	return lead, false
}

// gap is the least time between two renewals of an unrejected token.
func gap(life, minInterval time.Duration) time.Duration { return max(minInterval, life/8) }

// Backoff is the wait after the n-th failure in a row (n from 1): 1 s doubling
// with full jitter, capped at 1/8 of the lead and at 5 min, never under 100 ms.
// r is uniform in [0, 1).
func Backoff(n int, lead time.Duration, r float64) time.Duration {
	most := min(lead/8, 5*time.Minute)
	d := min(time.Second<<min(max(n-1, 0), 20), most)
	return max(time.Duration(r*float64(d)), 100*time.Millisecond)
}

// Unmoved is the wait after the n-th renewal in a row that moved no clock: it
// doubles up to a quarter of the lead.
func Unmoved(n int, lead, minInterval time.Duration) time.Duration {
	return max(min(minInterval<<min(max(n-1, 0), 20), lead/4), 100*time.Millisecond)
}

// misconfiguredWaits are the waits between logins that cannot work as things are,
// counted from the first that found no valid token: what failed before, or
// otherwise, has cost nobody anything.
var misconfiguredWaits = [...]time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 15 * time.Minute, 35 * time.Minute}

// view is all that decide looks at. Times are on the boot clock, 0 meaning none.
type view struct {
	now time.Duration

	has     bool          // there is a token
	issued  time.Duration // when it was asked for
	expires time.Duration
	life    time.Duration
	lead    time.Duration
	jitter  time.Duration
	minGap  time.Duration // renew.min_interval
	sent    time.Duration // when the last renewal was sent, 0 never

	refreshable bool          // the source refreshes and there is a session to refresh
	hardEnd     time.Duration // session hard limit
	refreshEnd  time.Duration // refresh token's absolute expiry
	idleEnd     time.Duration // refresh token's idle expiry
	left        int           // refreshes left, -1 unlimited

	needsPerson bool // a login cannot be done here
	over        bool // the session is known to be over
	preferLogin bool // a login is wished for, if it can be had
	asked       bool // someone wants it renewed now

	login, refresh laneView
}

type laneView struct {
	notBefore time.Duration
	since     time.Duration // failing since, 0 when not failing
}

// sessionEnd is the first fixed end of the session, or forever.
func (v *view) sessionEnd() time.Duration {
	end := forever
	for _, e := range []time.Duration{v.hardEnd, v.refreshEnd} {
		if e != 0 {
			end = min(end, e)
		}
	}
	return end
}

// mayRefresh says whether a refresh at t can be accepted at all.
func (v *view) mayRefresh(t time.Duration) bool {
	return v.refreshable && v.left != 0 && !v.over && t < v.sessionEnd() && (v.idleEnd == 0 || t < v.idleEnd)
}

// due is when the next renewal should start, whatever step it takes.
func (v *view) due() time.Duration {
	if !v.has {
		return v.now
	}
	d := v.expires - v.lead - v.jitter
	if v.hardEnd != 0 {
		d = min(d, v.hardEnd-v.lead-v.jitter) // where the wall clock was set since
	}
	first := v.issued + gap(v.life, v.minGap)
	if v.refreshable && v.idleEnd > first { // else no refresh could keep it
		d = min(d, v.idleEnd-v.lead)
	}
	d = max(d, first)
	if v.asked || v.over {
		d = v.now
	}
	if v.sent != 0 {
		d = max(d, v.sent+v.minGap)
	}
	return max(d, v.now)
}

// decide says which step comes next and when. A login is preferred once the
// next token of this session could not live its full life; while logins are held
// back the session is refreshed to its last second.
func decide(v view) (Step, time.Duration) {
	at := v.due()
	refresh := max(at, v.refresh.notBefore)
	if !v.mayRefresh(refresh) {
		return StepLogin, max(v.loginDue(at), v.login.notBefore)
	}
	if !v.wantsLogin(refresh) {
		return StepRefresh, refresh
	}
	login := max(v.loginDue(at), v.login.notBefore)
	if login <= refresh || !v.refreshHelps(refresh) {
		return StepLogin, login
	}
	return StepRefresh, refresh
}

// coarse is how far apart two readings of one end may be where a server counts in
// whole seconds and its Date does, too.
const coarse = 2 * time.Second

// wantsLogin says that a login serves better than a refresh at t: one of a session
// whose end cut the token short already would bring no more than that.
func (v *view) wantsLogin(t time.Duration) bool {
	if v.needsPerson {
		return false
	}
	if v.preferLogin {
		return true
	}
	if end := v.sessionEnd(); end != forever && (end-t < v.life || end-v.expires < coarse) {
		return true
	}
	return v.refreshFails(t)
}

// refreshFails says that at t refreshing has failed for half the lead or to the
// expiry. What failed before it was due, at a caller's wish, put nothing at stake.
func (v *view) refreshFails(t time.Duration) bool {
	failing := v.refresh.since
	if failing == 0 {
		return false
	}
	if !v.asked {
		failing = max(failing, v.expires-v.lead-v.jitter)
	}
	return t-failing >= v.lead/2 || t >= v.expires
}

// loginDue brings a failing login forward: it is tried again as soon as it may,
// not at the next renewal.
func (v *view) loginDue(at time.Duration) time.Duration {
	if v.login.since != 0 {
		return max(v.now, v.sent+v.minGap)
	}
	return at
}

// refreshHelps says that a refresh at t would bring a later expiry.
func (v *view) refreshHelps(t time.Duration) bool {
	next := t + v.life
	if v.hardEnd != 0 {
		next = min(next, v.hardEnd)
	}
	return next > v.expires
}
