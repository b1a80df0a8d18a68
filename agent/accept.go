package agent

import (
	"context"
	"sync"
	"time"
)

// errUnmoved is a renewal that brought nothing: the same token with the same
// expiry.
var errUnmoved = &Error{Kind: Transient, Detail: "the server returned the same token and moved no clock"}

// mostLife bounds what is believed of a life; a Duration holds 292 years.
const mostLife = 100 * 365 * 24 * time.Hour

// accept makes what a step brought the token's new record: durable first, then
// visible, then delivered.
func (k *keeper) accept(ctx context.Context, step Step, src Source, g *Grant) error {
	now := k.a.now()
	k.mu.Lock()
	if k.removed || k.src.Traits().Fingerprint != src.Traits().Fingerprint {
		// A reload gave this token another source meanwhile: what came belongs
		// to the old one. The new source renews by itself.
		kept := !k.removed && k.keepOf(step, src, g, now)
		k.mu.Unlock()
		if kept {
			return k.saveOrLater(ctx, longestPatience)
		}
		return nil
	}
	src = k.src // made anew by a reload, perhaps with other limits
	k.answered = now.Boot
	old := k.rec
	next, err := k.merge(step, src.Traits(), g, now)
	if err != nil {
		k.rec.spending = false
		k.mu.Unlock()
		return err
	}
	ended := k.oldSession(step, src, &old, next, now)
	k.rec, k.foreign = *next, false
	for _, d := range k.sinks {
		d.fresh = true
	}
	overlapNone := src.Traits().OverlapNone && !src.Traits().Rotates && next.refreshToken.IsZero()
	if overlapNone {
		// The server has killed the old token already: readers wait for nothing
		// but the rename.
		k.publish(now)
	}
	patience := k.patience(now, &old, !next.refreshToken.Equal(old.refreshToken))
	k.mu.Unlock()

	var owed []Change
	if ended != nil {
		if owed, err = ended.change(now, k.a.bootID); err != nil {
			ended, owed = nil, nil // what cannot be written is left to die by itself
		}
	}
	err = k.save(ctx, patience, owed...)
	k.mu.Lock()
	k.settled(step, now)
	if err != nil {
		k.unsaved, k.saveAfter = true, k.a.now().Boot+saveRetry
		k.a.stateFailed(err)
	}
	k.asked.came = true
	if !overlapNone && !k.removed { // it may have left the config while it was saved
		k.carries = true
		k.publish(now)
		k.carries = false
	}
	if ended != nil {
		ended.at = k.endOf(&old, k.a.now()) // saving may have taken long
	}
	k.mu.Unlock()
	if ended != nil {
		k.a.owe(ended)
	}
	k.a.logRenewed(k.name, step, next, k.a.now())
	return nil
}

// keepOf takes what came for a source that the config names no more into the record
// of that one's session, for a config that goes back to it; readers keep what they
// have. k.mu is held.
func (k *keeper) keepOf(step Step, src Source, g *Grant, now Instant) bool {
	if k.rec.fingerprint != src.Traits().Fingerprint || !k.rec.has() {
		return false
	}
	next, err := k.merge(step, src.Traits(), g, now)
	if err != nil {
		return false
	}
	k.rec = *next
	return true
}

// merge computes the record that g leads to. k.mu is held.
func (k *keeper) merge(step Step, t *Traits, g *Grant, now Instant) (*record, error) {
	r := k.rec
	moved := r.has() && r.fingerprint != t.Fingerprint
	if moved {
		r.endSession()
	}
	r.spending, r.dead, r.tried, r.forPerson, r.retried = false, false, 0, false, false
	r.fingerprint = t.Fingerprint
	same := g.Token.IsZero() || g.Token.Equal(r.token)
	if !g.Token.IsZero() {
		if why := errToken(g.Token.Reveal()); why != "" {
			return nil, &Error{Kind: Misconfigured, Step: step, Detail: why}
		}
	}
	sent := g.Sent.Boot
	r.takeSession(step, g, same, t.Session)
	if life := min(g.Life, mostLife); life > 0 {
		r.life, r.expiry = life, sent+life
	} else if !same {
		return nil, &Error{Kind: Misconfigured, Step: step, Detail: "the token had already expired when it came", Hint: "compare this machine's clock with the server's"}
	}
	if end := r.hardEnd(t.Session); end != 0 && r.expiry > end {
		r.expiry = end
		if r.expiry <= now.Boot {
			return nil, &Error{Kind: SessionOver, Step: step, Detail: "the session's hard limit has passed"}
		}
	}
	if same {
		old := k.rec.expiry
		if g.IatLife && r.expiry > old {
			r.expiry = old // a cached token: its iat says nothing new
		}
		if r.expiry-old < 500*time.Millisecond && !moved {
			if step == StepRefresh {
				k.rec.refreshToken, k.rec.refreshEnd, k.rec.idleEnd = r.refreshToken, r.refreshEnd, r.idleEnd
			}
			return nil, errUnmoved
		}
	} else {
		r.generation++
		r.token = g.Token
		r.jitter = time.Duration(k.a.random() * k.renewal().jitter() * float64(r.expiry-sent))
	}
	r.issued, r.byWall = sent, r.byWall&^clockIssued
	r.revision++
	if g.Type != "" {
		r.typ = g.Type
	}
	r.note = noted(g.Note)
	return &r, nil
}

// takeSession moves the session's own clocks. Only what came replaces what was.
func (r *record) takeSession(step Step, g *Grant, same bool, lim SessionLimits) {
	sent := g.Sent.Boot
	if step == StepLogin {
		r.byWall &^= clockSession | clockRefresh | clockIdle
		if !same || r.loginSent == 0 {
			r.byWall &^= clockLogin
			r.loginSent = sent // a cached token belongs to the session it was cached from
		}
		r.refreshes, r.refreshToken, r.extra, r.private = 0, g.RefreshToken, g.Extra, g.Private
		r.sessionEnd, r.refreshEnd, r.idleEnd = 0, 0, 0
	} else {
		r.refreshes++
		if r.loginSent == 0 || g.Seed != "" && g.Seed != r.seed {
			r.loginSent, r.refreshes, r.byWall = sent, 0, r.byWall&^clockLogin
		}
		if !g.RefreshToken.IsZero() {
			if !g.RefreshToken.Equal(r.refreshToken) {
				r.refreshEnd, r.idleEnd = 0, 0 // clocks of the one before
			}
			r.refreshToken = g.RefreshToken
		}
		if !g.Private.IsZero() {
			r.private = g.Private
		}
		if len(g.Extra) > 0 {
			merged := make(map[string]string, len(r.extra)+len(g.Extra))
			for k, v := range r.extra {
				merged[k] = v
			}
			for k, v := range g.Extra {
				merged[k] = v
			}
			r.extra = merged
		}
	}
	if g.Seed != "" {
		r.seed = g.Seed
	}
	set := func(which clocks, at *time.Duration, d time.Duration) {
		if d > 0 {
			*at = sent + min(d, mostLife)
			r.byWall &^= which
		}
	}
	set(clockSession, &r.sessionEnd, g.SessionLife)
	set(clockRefresh, &r.refreshEnd, g.RefreshLife)
	set(clockIdle, &r.idleEnd, g.RefreshIdle)
	set(clockIdle, &r.idleEnd, lim.Idle)
}

// hardEnd is the session's hard limit on the boot clock, 0 for none.
func (r *record) hardEnd(lim SessionLimits) time.Duration {
	end := r.sessionEnd
	if lim.MaxAge > 0 && r.loginSent != 0 && (end == 0 || r.loginSent+lim.MaxAge < end) {
		end = r.loginSent + lim.MaxAge
	}
	return end
}

// settled clears what a success ends. k.mu is held.
func (k *keeper) settled(step Step, now Instant) {
	before := k.state(now)
	k.lane(step).clear()
	if step == StepLogin {
		k.refresh.clear()
		k.over, k.ended, k.preferLogin = false, false, false
	} else if p := k.login.problem; p != nil && (k.login.notBefore <= now.Boot || p.Kind == Transient || p.Kind == Throttled || p.Kind == Misconfigured) {
		if v := k.view(now); !v.wantsLogin(now.Boot) {
			k.login.clear() // it was only wanted because refreshing failed
		}
	}
	k.unmoved, k.ambiguous, k.retryUntil = 0, 0, 0
	k.suspect, k.lapsed = false, false
	k.unsaved, k.dirty = false, false
	if k.refused != k.rec.generation-1 {
		k.refusedRow = 0 // the one before this was not refused
	}
	if before != k.state(now) {
		k.a.emit(EventState, k.name, k.rec.generation, k.rec.revision, k.state(now))
	}
}

// intend makes durable that a request is about to spend the refresh token.
func (k *keeper) intend(ctx context.Context, at *Attempt) error {
	if !at.Spends {
		return nil
	}
	k.mu.Lock()
	if k.keepsOther() { // a start would not know whose token was spent
		k.mu.Unlock()
		return nil
	}
	must := !k.valid(k.a.now()) || k.rec.expiry-k.a.now().Boot < k.lead()/4
	unsaved := k.unsaved
	k.rec.spending = true
	patience := k.patience(k.a.now(), &k.rec, false)
	k.mu.Unlock()
	err := k.save(ctx, patience)
	if err == nil {
		return nil
	}
	k.a.stateFailed(err)
	if must {
		return nil
	}
	k.mu.Lock()
	k.rec.spending = false
	k.unsaved = unsaved
	k.mu.Unlock()
	return err
}

const longestPatience = 5 * time.Second

// patience is how long to wait for the store: half of what the token that
// readers hold has left, so that a disk that hangs does not make it lapse. A
// refresh token that was just given is worth nearly all of that. k.mu is held.
func (k *keeper) patience(now Instant, held *record, precious bool) time.Duration {
	left := held.expiry - now.Boot
	switch {
	case !held.has() || left <= 0:
		return longestPatience
	case precious:
		return min(max(left/8*7, 200*time.Millisecond), attemptTimeout)
	}
	return min(max(left/2, 200*time.Millisecond), longestPatience)
}

// records has room for records on their way to the store.
var records = sync.Pool{New: func() any { return new([]byte) }}

// save makes the record durable, together with other changes.
func (k *keeper) save(ctx context.Context, patience time.Duration, more ...Change) error {
	buf := records.Get().(*[]byte)
	defer records.Put(buf)
	k.mu.Lock()
	value, err := k.rec.encode((*buf)[:0], k.a.now(), k.a.bootID)
	k.mu.Unlock()
	if err != nil {
		return err
	}
	*buf = value
	return k.a.save(ctx, patience, append(more, Change{BucketTokens, k.name, value})...)
}

// saveOrLater makes the record durable now, or later where that fails.
func (k *keeper) saveOrLater(ctx context.Context, patience time.Duration) error {
	err := k.save(ctx, patience)
	if err != nil {
		k.a.stateFailed(err)
		k.mu.Lock()
		k.unsaved, k.saveAfter = true, k.a.now().Boot+saveRetry
		k.mu.Unlock()
		k.a.push(k, 0)
	}
	return err
}

// saveAgain retries a save that failed; the token is out already.
func (k *keeper) saveAgain(ctx context.Context) {
	k.mu.Lock()
	patience := k.patience(k.a.now(), &k.rec, false)
	k.mu.Unlock()
	err := k.save(ctx, patience)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.saveAfter = k.a.now().Boot + saveRetry
	k.unsaved, k.dirty = err != nil, false
	if err != nil {
		k.a.stateFailed(err)
	}
}

// saveSoon asks for a save that nothing waits for. k.mu is held.
func (k *keeper) saveSoon() {
	if !k.unsaved && !k.dirty && !k.foreign {
		k.dirty, k.saveAfter = true, 0
	}
}
