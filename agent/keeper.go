package agent

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"
)

const (
	attemptTimeout = 30 * time.Second
	saveRetry      = 5 * time.Second
)

// keeper is one token's life. Read turn, renew, attempt and after: that is all
// of it. The agent's loop calls turn whenever something may be due; a renewal
// runs on a goroutine of its own, at most one at a time.
type keeper struct {
	*seat
	a    *Agent
	due  time.Duration // in the agent's queue; guarded by Agent.mu
	slot int32         // index in the queue, -1 when it is not there; guarded by Agent.mu

	mu      sync.Mutex
	src     Source
	when    *Renew // nil: as documented
	rec     record
	sinks   []*delivery
	changed chan struct{} // closed at the next change; nil while nobody waits
	carried *delivery     // what the renewal's own goroutine delivers once it is done

	// Fields stand by size: there are a hundred thousand keepers.
	carries     bool // what is published now is for carried, and for other goroutines
	renewing    bool
	foreign     bool // the state keeps a token of another source, to which the config may go back
	saving      bool // renewing is not for another token: what there is, is saved again
	freed       bool // the account was let go since the last try to log in
	removed     bool
	atStart     bool // the secret was read when the process started
	suspect     bool // the clocks of rec cannot be believed: renew before it is called valid
	lapsed      bool // the expiry was noticed
	unsaved     bool // the last record could not be saved
	dirty       bool // the record is to be saved, at leisure
	over        bool // the session is over: only a login helps
	ended       bool // and that is sure: there is nothing left to refresh
	preferLogin bool // its tokens are refused one after another: log in if that can be done
	queued      queueState
	epoch       uint32 // +1 at whatever may make the next try come out otherwise
	leaving     int16  // logouts under way: nothing new is sent
	refusedRow  int16  // generations refused in a row
	readAt      int32  // offset of the wall clock by which rec's clocks were read, in seconds from the agent's origin
	adjusted    int32  // seconds by which they were moved since
	took        uint16 // milliseconds that the last answer took
	unmoved     int16  // renewals in a row that moved no clock
	ambiguous   int16  // requests in a row that spent the refresh token and got no answer
	asked       asked
	refused     uint64        // the latest generation that an API refused
	saveAfter   time.Duration // of unsaved and dirty
	sent        time.Duration // when the last renewal was sent
	answered    time.Duration // when the last answer was whole
	retryUntil  time.Duration // resumed machine: do not start before this
	askAfter    time.Duration // the callers' share of the account's logins is spent until then
	login       lane
	refresh     lane
	announced   time.Duration // the last announcement that a person is needed was for this time
	callers     map[callerKey]*callerBudget
	counts      [len(countedKinds)]uint32
}

// lane is one of the two ways to the next token, with what holds it back.
type lane struct {
	notBefore time.Duration
	since     time.Duration // failing since
	failures  int32
	stranded  uint8 // misconfigured logins that found no valid token
	account   bool  // waits for another token's login on the same account
	problem   *Problem
}

func (l *lane) clear() { *l = lane{} }

type queueState int8

const (
	notQueued queueState = iota
	queuedScheduled
	queuedAsked
)

// asked remembers who wants a renewal now.
type asked struct {
	wanted    bool
	scheduled bool // by the agent itself: not counted as a caller's
	tried     bool // a renewal has come to nothing; the wish stands
	came      bool // the renewal under way has published: who asks now wants another
	seq       uint32
}

// turn looks at everything that may be due, starts what is, and returns when to
// look again. It does no I/O.
func (k *keeper) turn(now Instant) (next time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.removed {
		return forever
	}
	next = min(forever, k.noticeExpiry(now), k.announce(now), k.deliverOwed(now))
	if k.renewing || k.leaving > 0 {
		return next
	}
	if (k.unsaved || k.dirty) && k.saveAfter <= now.Boot {
		k.saving = true
		k.start(k.saveAgain)
		return next
	}
	if k.unsaved || k.dirty {
		next = min(next, k.saveAfter)
	}
	if k.asked.wanted && k.askAfter > now.Boot {
		next = min(next, k.askAfter)
	}
	step, at := decide(k.view(now))
	if !k.isAsked(now) && !k.moved() {
		at = max(at, k.retryUntil)
	}
	if at > now.Boot {
		return min(next, at)
	}
	callers := false
	if k.asked.wanted && !k.asked.scheduled {
		if at := k.bySchedule(now); at > now.Boot {
			callers, next = true, min(next, at) // then it is not their share that counts
		}
	}
	if k.queued == queuedScheduled || k.queued == queuedAsked && callers {
		return next
	}
	k.unqueue()
	p, ok := k.a.limits.take(k, k.src.Traits(), now.Boot, k.rank(now), callers)
	if !ok {
		k.queued = queuedScheduled
		if callers {
			k.queued = queuedAsked
		}
		k.a.poke() // the loop asks the limiter when to look again
		return next
	}
	k.startRenewal(step, p)
	return next
}

func (k *keeper) startRenewal(step Step, p place) {
	k.queued = notQueued
	k.start(func(ctx context.Context) {
		defer k.a.release(&p)
		k.renew(ctx, step, &p)
	})
}

// start runs the one background work of this keeper; k.mu is held.
func (k *keeper) start(work func(context.Context)) {
	k.renewing, k.asked.came = true, false
	k.a.work.Add(1)
	go func() {
		defer k.a.work.Done()
		makeRoom()
		work(k.a.lasting)
		k.mu.Lock()
		k.renewing, k.saving = false, false
		d := k.carried
		k.carried = nil
		removed := k.removed
		k.wake()
		k.mu.Unlock()
		k.a.again(k)
		if d != nil {
			k.deliverAll(d)
		}
		if removed {
			k.a.buryLate(k)
		}
	}()
}

// makeRoom lets the stack grow to what a renewal needs in one step while it is
// empty, instead of by doubling, each time moving all that is on it.
//
//go:noinline
func makeRoom() {
	var room [12 << 10]byte
	runtime.KeepAlive(&room)
}

// renew is one renewal: a step and, where its failure calls for it, the next in
// the same breath.
func (k *keeper) renew(ctx context.Context, step Step, p *place) {
	began := k.a.now()
	k.mu.Lock()
	want := k.asked
	byCaller := want.wanted && !want.scheduled && k.bySchedule(began) > began.Boot
	k.mu.Unlock()
	defer k.answerAsked(want)
	tried := map[Step]int{}
	for step != "" && tried[step] < 2 {
		byCaller = byCaller && !k.lost()
		if at := k.a.limits.again(p, k.a.now().Boot, byCaller); at != 0 {
			if byCaller && k.a.limits.opens(k.source().Traits(), k.a.now().Boot, false) <= k.a.now().Boot {
				k.mu.Lock()
				k.askAfter = at // the wish waits, not the schedule
				k.mu.Unlock()
				return
			}
			k.postpone(step, at)
			return
		}
		tried[step]++
		fingerprint, epoch := k.tries()
		err := k.attempt(ctx, step, byCaller, p)
		if k.outdated(fingerprint) {
			break // what came belongs to a source that the config names no more
		}
		step = k.after(step, err)
		k.retryChanged(epoch)
	}
	k.a.observe(k.a.now().Boot - began.Boot)
}

// answerAsked forgets a wish once a renewal has come of it, unless that only
// waits for the account or its budget, the token is still one that an API has
// refused, or the wish was repeated meanwhile.
func (k *keeper) answerAsked(want asked) {
	k.mu.Lock()
	defer k.mu.Unlock()
	waits := k.login.account || k.askAfter > k.a.now().Boot
	if k.asked.seq != want.seq {
		return
	}
	k.asked.tried = !waits
	if k.asked.came || !waits && !k.isRefused() {
		k.asked.wanted = false
	}
}

// attempt makes one step and books what came of it. A nil error means that the
// new token is durable and published.
func (k *keeper) attempt(ctx context.Context, step Step, byCaller bool, p *place) error {
	now := k.a.now()
	src, s := k.session(now)
	at, err := src.Prepare(ctx, step, s)
	if err != nil {
		return err
	}
	if step == StepRefresh {
		if t := k.a.ledger.waits(now, at.Credential); t != 0 {
			return &gated{until: t, kind: Throttled, why: "the server asked to wait"}
		}
		// Before the intent: a crash between that and the request costs the session.
		k.countRequest(ctx, now, src.Traits())
		if err := k.intend(ctx, at); err != nil {
			return err
		}
		g, err := k.send(ctx, step, at, p)
		if err != nil {
			if e := asError(step, err); e.Kind == Throttled {
				_ = k.a.ledger.throttle(ctx, k.a.now(), at.Credential, e)
			}
			return err
		}
		return k.accept(ctx, step, src, g)
	}
	plan := k.loginPlan(now, src.Traits(), byCaller)
	v, err := k.a.ledger.begin(ctx, now, at.Credential, plan)
	switch {
	case !v.ok && err != nil:
		k.a.stateFailed(err)
		return err
	case !v.ok:
		return v.gate()
	}
	k.countRequest(ctx, now, src.Traits())
	g, err := k.send(ctx, step, at, p)
	var failed *Error
	if err != nil {
		failed = asError(step, err)
	}
	v, berr := k.a.ledger.book(ctx, k.a.now(), at.Credential, plan, failed)
	if berr != nil {
		k.a.stateFailed(berr)
	}
	if v.cleared {
		k.a.secretWorked()
	}
	if err != nil && !v.ok {
		return &heldBack{failed, v.gate()}
	}
	if err != nil {
		return err
	}
	return k.accept(ctx, step, src, g)
}

// send performs a prepared request. Neither a stop nor a reload cancels it.
func (k *keeper) send(ctx context.Context, step Step, at *Attempt, p *place) (*Grant, error) {
	now := k.a.now()
	k.mu.Lock()
	k.sent = now.Boot
	timeout := k.timeout(now, step, at)
	k.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	p.spent = true
	g, err := at.Send(ctx)
	if err == nil {
		k.mu.Lock()
		k.took = uint16(min(k.a.now().Boot-now.Boot, attemptTimeout).Milliseconds())
		k.mu.Unlock()
	}
	if e, ok := errors.AsType[*Error](err); ok && e.Unsent {
		p.spent = false
	}
	if err == nil && g.HasSkew {
		k.a.noteSkew(k.source().Traits(), g.Skew)
	}
	if err == nil && step == StepLogin && g.Token.IsZero() {
		err = &Error{Kind: Misconfigured, Step: step, Detail: "the answer held no token"}
	}
	return g, err
}

// countRequest has the state know of the request that is to be sent.
func (k *keeper) countRequest(ctx context.Context, now Instant, t *Traits) {
	k.mu.Lock()
	patience := k.patience(now, &k.rec, false)
	k.mu.Unlock()
	if err := k.a.limits.keep(ctx, now, t, patience); err != nil {
		k.a.stateFailed(err)
	}
}

// timeout bounds one attempt: 30 s, but less while a valid token is at stake, so
// that a server that hangs leaves room for another try. It grows from try to try,
// since a slow server is to be waited for in the end, and one that is known to be slow
// from the first on. What spends a refresh token is never cut short: that would make
// the outcome unknown. k.mu is held.
func (k *keeper) timeout(now Instant, step Step, at *Attempt) time.Duration {
	if at.Spends || !k.valid(now) {
		return attemptTimeout
	}
	first := max(time.Second, k.lead()/4, 2*time.Duration(k.took)*time.Millisecond)
	return min(attemptTimeout, first<<min(k.lane(step).failures, 5))
}

// tries says what a step is tried with.
func (k *keeper) tries() (fingerprint string, epoch uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.src.Traits().Fingerprint, k.epoch
}

// lost says that the session is over, so that the schedule wants a login, whoever
// asked for a renewal.
func (k *keeper) lost() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.over
}

func (k *keeper) outdated(fingerprint string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.src.Traits().Fingerprint != fingerprint
}

// retryChanged brings forward what a failure put off, where the secret or the
// config changed after it was sent.
func (k *keeper) retryChanged(epoch uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.epoch == epoch {
		return
	}
	soon := k.a.now().Boot + k.minInterval()
	for _, l := range []*lane{&k.login, &k.refresh} {
		if !l.account {
			l.notBefore = min(l.notBefore, soon)
		}
	}
}
