package agent

import (
	"math"
	"time"
)

// ClockChanged has the loop look at once: the wall clock was set, or the machine
// woke up.
func (a *Agent) ClockChanged() { a.poke() }

// noticeJumps re-evaluates everything after a suspend or a step of the wall clock.
// Deadlines stand on a clock that does not step; those alone move that were read off
// the wall clock, since another boot's clock says nothing here.
func (a *Agent) noticeJumps(now Instant) {
	passed := now.Boot - a.last.Boot
	step := now.Wall.Sub(a.last.Wall) - passed
	a.last.Wall = a.last.Wall.Add(passed)
	if step > stepNoticed || step < -stepNoticed {
		a.last.Wall = now.Wall
		a.log.Warn(MsgClockStepped, KeySkew, step.Round(time.Second))
		for k := range a.roll.Load().all() {
			k.rewrite(now)
		}
		a.shiftLogouts(step)
	}
	if passed > max(longestSleep, a.asked)+resumeGap {
		a.log.Info(MsgResumed, "asleep", passed.Round(time.Second))
		for k := range a.roll.Load().all() {
			k.spread(now, passed)
		}
	}
}

// rewrite looks at a token anew after the wall clock was set: its clocks that were
// read off that, what the ledger holds, and the times that readers see.
func (k *keeper) rewrite(now Instant) {
	k.mu.Lock()
	valid := k.valid(now)
	k.adjust(now)
	for _, l := range []*lane{&k.login, &k.refresh} {
		if p := l.problem; p != nil && !l.account && (p.Kind == Rejected || p.Kind == Locked || p.Kind == Throttled) {
			l.notBefore = 0 // the ledger says anew how long it holds
		}
	}
	if valid && !k.removed {
		k.rec.revision++
		k.saveSoon()
		k.publish(now)
	}
	k.mu.Unlock()
	k.a.push(k, 0)
}

// adjust moves the clocks of a record that were read off the wall clock to where they
// would be had it then been as far ahead as it is now. It undoes that where the wall
// clock goes back, and goes no further: a clock that was ahead made a token seem older
// than it is, and no token is believed to live longer than was told. k.mu is held.
func (k *keeper) adjust(now Instant) {
	if k.rec.byWall == 0 {
		return
	}
	behind := max(0, seconds(now.offset()-k.a.origin)-k.readAt)
	if d := behind - k.adjusted; d != 0 {
		k.rec.shift(time.Duration(d) * time.Second)
		k.adjusted = behind
	}
}

// seconds rounds d to whole ones, of which there are as many as fit.
func seconds(d time.Duration) int32 {
	return int32(max(math.MinInt32/2, min(d.Round(time.Second)/time.Second, math.MaxInt32/2)))
}

// spread draws when to start what fell due while the machine slept, over half
// the lead, so that all machines of a site do not call at once when the lid
// opens.
func (k *keeper) spread(now Instant, asleep time.Duration) {
	k.mu.Lock()
	if k.refresh.since != 0 {
		k.refresh.since = min(k.refresh.since+asleep, now.Boot) // then it has not failed
	}
	if p := k.login.problem; p != nil && p.Kind == Misconfigured && now.Boot-k.rec.tried >= misconfiguredWaits[3] {
		// It may be elsewhere by now, away from what was wrong.
		k.login.notBefore = min(k.login.notBefore, now.Boot+time.Duration(k.a.random()*float64(misconfiguredWaits[0]/2)))
	}
	v := k.view(now)
	end := v.expires
	if v.refreshable && v.idleEnd != 0 {
		end = min(end, v.idleEnd)
	}
	// Who was put off beyond what is due waits no longer for being woken again.
	if putOff := k.retryUntil != 0 && k.retryUntil >= v.expires-v.lead-v.jitter; k.valid(now) && !putOff {
		k.retryUntil = now.Boot + time.Duration(k.a.random()*float64(max(min(v.lead, end-now.Boot), 0)/2))
	}
	k.mu.Unlock()
	k.a.push(k, 0)
}
