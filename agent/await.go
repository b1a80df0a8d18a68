package agent

import (
	"context"
	"time"
)

// await calls look at once and at each change until it says that it has seen
// enough, or ctx ends. look holds k.mu.
func (k *keeper) await(ctx context.Context, look func() (enough bool)) {
	for {
		k.mu.Lock()
		if look() {
			k.mu.Unlock()
			return
		}
		changed := k.change()
		k.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Await waits until ok holds of what is published. It returns early, with what
// is published, when nothing is on its way that could make it hold.
func (t Token) Await(ctx context.Context, ok func(*Publication) bool) (p *Publication, held bool) {
	k := t.k
	k.await(ctx, func() bool {
		p = k.current.Load()
		held = p != nil && ok(p)
		return held || k.removed || !k.renewing && k.stuck()
	})
	return p, held
}

// AwaitValid waits for a valid token, whatever holds it back. It returns nil once
// the token has left the config, and when ctx ends.
func (t Token) AwaitValid(ctx context.Context) (p *Publication) {
	k := t.k
	k.await(ctx, func() bool {
		if p = k.current.Load(); p != nil && p.Remaining(k.a.now()) <= 0 {
			p = nil
		}
		return p != nil || k.removed
	})
	return p
}

// AwaitLogin waits for what a SignIn asked for: done once the token is of a
// later revision than before by a login. It returns false as soon as the login
// has failed, and when ctx ends; Status says why.
func (t Token) AwaitLogin(ctx context.Context, before uint64) (done bool) {
	k := t.k
	k.await(ctx, func() bool {
		answered := !k.renewing && (!k.asked.wanted || k.asked.tried)
		failed := k.removed || answered && k.login.problem != nil
		done = answered && !failed && k.rec.revision > before
		return done || failed
	})
	return done
}

const (
	patience    = 10 * time.Second // how long Settle waits for a further try
	settleTries = 3                // of a sink, before Settle gives it up
)

// Settle waits until the token is valid and every sink has it. It returns false
// when that does not come about: the context ended, only a person or a changed
// secret could help, the next try is a while away, or a sink failed again and
// again.
func (t Token) Settle(ctx context.Context) (settled bool) {
	k := t.k
	k.await(ctx, func() bool {
		now := k.a.now()
		owed, dead := false, false
		for _, d := range k.sinks {
			owed = owed || d.owed || d.busy
			dead = dead || d.failures >= settleTries
		}
		settled = k.valid(now) && !owed && !k.unsaved && !k.moved()
		_, next := decide(k.view(now))
		later := !k.login.account && k.queued == notQueued && next > now.Boot+patience
		return settled || k.removed || dead || !k.renewing && !k.valid(now) && (later || k.stuck())
	})
	return settled
}

// stuck says that only a person or a changed secret brings the next token.
func (k *keeper) stuck() bool {
	now := k.a.now()
	if _, next := decide(k.view(now)); k.login.account || next <= now.Boot {
		return false
	}
	switch k.state(now) {
	case StateHeld, StateLocked, StateNeedsHuman:
		return true
	}
	return false
}
