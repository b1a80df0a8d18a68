package agent

import "time"

// place is one renewal's at a host: it counts among the requests under way until
// it is released.
type place struct {
	h      *host         // nil: nothing limits it
	booked time.Duration // its latest request in the window
	asked  bool          // that is a caller's
	spent  bool          // that was sent
	logout bool          // it is a logout's
	apart  bool          // and is none of those of renewals
}

// rank is by whom a place that comes free is taken first: the nearest expiry. Who has
// failed comes after those whose tokens lapse sooner than its lead passes, or tokens
// that hang would keep a good one out for ever. k.mu is held.
func (k *keeper) rank(now Instant) time.Duration {
	if k.login.since != 0 || k.refresh.since != 0 {
		return max(k.rec.expiry, now.Boot+k.lead())
	}
	return k.rec.expiry
}

// admitted is called by the limiter when k's request may be sent.
func (k *keeper) admitted(p place) {
	now := k.a.now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.queued == notQueued || k.removed || k.renewing || k.leaving > 0 {
		k.queued = notQueued // turn queues it again once it is free
		k.a.release(&p)
		k.a.push(k, 0)
		return
	}
	step, _ := decide(k.view(now))
	k.startRenewal(step, p)
}

// unqueue takes k out of its host's queue. k.mu is held.
func (k *keeper) unqueue() {
	if k.queued != notQueued {
		k.a.limits.forget(k)
		k.queued = notQueued
	}
}

// release ends p; the loop hands it to the next.
func (a *Agent) release(p *place) {
	if a.limits.release(p) {
		a.poke()
	}
}
