package agent

import (
	"context"
	"time"
)

// delivery is one sink of one token and what it still lacks.
type delivery struct {
	sink      Sink
	busy      bool
	owed      bool // the current publication is not there yet, or may have drifted
	withdraw  bool // that there is no token any more is still to be told
	gone      bool // the sink left the config
	fresh     bool // what is owed came with the latest answer
	failures  int
	retry     time.Duration
	err       error
	failSince time.Time
	errs      uint32
}

// publish makes the record what everyone reads and owes it to every sink. k.mu
// is held.
func (k *keeper) publish(now Instant) {
	p := k.publication(now)
	k.rec.token = p.Token // one text with what readers see
	old := k.current.Swap(p)
	k.lapsed = false
	for _, d := range k.sinks {
		d.owed, d.withdraw, d.retry = true, false, 0
		switch {
		case d.busy:
		case k.carries && k.carried == nil:
			d.busy, k.carried = true, d
		default:
			k.deliver(d)
		}
	}
	kind := EventToken
	if old != nil && old.Generation == p.Generation {
		kind = EventClocks
	}
	k.a.emit(kind, k.name, p.Generation, p.Revision, k.state(now))
	k.wake()
}

// publication is the record as readers see it, times by the wall clock of now.
func (k *keeper) publication(now Instant) *Publication {
	return k.describe(newPublication(k.name, k.rec.token), now)
}

// describe says of a publication all but its token and name.
func (k *keeper) describe(p *Publication, now Instant) *Publication {
	r, t := &k.rec, k.src.Traits()
	p.Type, p.Extra, p.Presentation = r.typ, r.extra, t.Presentation
	p.Generation, p.Revision = r.generation, r.revision
	p.IssuedAt, p.ExpiresAt = now.At(r.issued), now.At(r.expiry)
	p.Expires, p.Life = r.expiry, r.expiry-r.issued
	if p.Type == "" {
		p.Type = "Bearer"
	}
	if end := r.hardEnd(t.Session); end != 0 {
		p.SessionExpiresAt = now.At(end)
	}
	return p
}

// deliver runs one sink until it owes nothing or failed. k.mu is held.
func (k *keeper) deliver(d *delivery) {
	d.busy = true
	k.a.work.Add(1)
	go func() {
		defer k.a.work.Done()
		k.deliverAll(d)
	}()
}

func (k *keeper) deliverAll(d *delivery) {
	for k.deliverOnce(k.a.lasting, d) {
	}
}

// deliverOnce does what one sink is owed now and reports whether there is more.
func (k *keeper) deliverOnce(ctx context.Context, d *delivery) (more bool) {
	k.mu.Lock()
	p, sink, withdraw, owed, gone := k.current.Load(), d.sink, d.withdraw, d.owed, d.gone
	why := WithdrawExpired
	if k.rec.loggedOut {
		why = WithdrawRemoved // the session was ended on purpose: nothing of it is to stay
	}
	d.owed, d.withdraw = false, false
	if gone {
		k.mu.Unlock()
		k.withdraw(ctx, sink, WithdrawRemoved)
		return false
	}
	if !withdraw && (!owed || p == nil) {
		d.busy = false
		k.wake()
		k.mu.Unlock()
		return false
	}
	k.mu.Unlock()

	var err error
	if withdraw {
		err = sink.Withdraw(ctx, why)
	} else {
		err = sink.Deliver(ctx, p)
	}
	now := k.a.now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		if d.err != nil {
			k.a.log.Info(MsgSinkRecovered, KeyToken, k.name, KeySink, d.sink.ID())
		}
		if t := k.src.Traits(); t.OverlapNone && !withdraw && d.fresh {
			k.a.noteGap(now.Boot - k.answered)
		}
		d.fresh = d.fresh && withdraw
		d.failures, d.err, d.retry = 0, nil, 0
		return true
	}
	d.failures++
	d.errs++
	if d.err == nil {
		d.failSince = now.Wall
		k.a.log.Error(MsgSinkFailed, KeyToken, k.name, KeySink, d.sink.ID(), KeyError, err)
	}
	d.err = err
	if !d.owed && !d.withdraw && !d.gone { // nothing newer came meanwhile: this is owed again
		d.owed, d.withdraw = !withdraw, withdraw
		d.retry = now.Boot + sinkBackoff(d.failures, k.a.random())
		d.busy = false
		k.wake()
		k.a.push(k, d.retry)
		return false
	}
	return true
}

// sinkBackoff is the wait after a sink's n-th failure in a row.
func sinkBackoff(n int, r float64) time.Duration {
	return Backoff(n, 8*time.Minute, 0.5+r/2)
}

// deliverOwed starts the sinks whose retry is due and returns when the next one
// is. k.mu is held.
func (k *keeper) deliverOwed(now Instant) time.Duration {
	next := forever
	for _, d := range k.sinks {
		if d.busy || !d.owed && !d.withdraw {
			continue
		}
		if d.retry > now.Boot {
			next = min(next, d.retry)
			continue
		}
		k.deliver(d)
	}
	return next
}

// noticeExpiry tells everyone once that the token is not accepted any more.
// k.mu is held.
func (k *keeper) noticeExpiry(now Instant) time.Duration {
	p := k.current.Load()
	switch {
	case p == nil || k.lapsed:
		return forever
	case p.Expires > now.Boot:
		return p.Expires
	}
	k.lapsed = true
	k.a.log.Error(MsgLapsed, KeyToken, k.name, KeyGeneration, p.Generation)
	k.a.emit(EventState, k.name, p.Generation, p.Revision, k.state(now))
	for _, d := range k.sinks {
		d.owed, d.withdraw, d.retry = false, true, 0
		if !d.busy {
			k.deliver(d)
		}
	}
	k.wake()
	return forever
}

// wake lets everyone look again who waits for this token. k.mu is held.
func (k *keeper) wake() {
	if k.changed != nil {
		close(k.changed)
		k.changed = nil
	}
}

// change returns a channel that is closed at the next change. k.mu is held.
func (k *keeper) change() <-chan struct{} {
	if k.changed == nil {
		k.changed = make(chan struct{})
	}
	return k.changed
}
