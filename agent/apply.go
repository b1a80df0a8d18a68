package agent

import (
	"context"
	"slices"
	"time"
)

// Apply makes specs the agent's tokens. A token whose resolved source is another
// one logs in again and stays published until it has; all else is taken over in
// place, generations and timers kept. A token that is gone is withdrawn from its
// sinks. Apply returns when new tokens that are valid in the state are published.
func (a *Agent) Apply(specs []*Spec, hosts map[string]HostLimits) error {
	a.applying.Lock()
	defer a.applying.Unlock()
	a.limits.configure(hosts, specs)
	old := a.roll.Load()
	next, fresh := a.seatFresh(specs, old)
	now := a.now()
	if fresh > 0 {
		if err := a.restore(old, next, now); err != nil {
			return err
		}
	}
	a.roll.Store(next)
	a.remove(specs, old)
	for _, s := range specs {
		if k := old.keeper(s.Name); k != nil {
			k.take(s, now)
		} else {
			a.push(next.keeper(s.Name), 0)
		}
	}
	return nil
}

// seatFresh is old with all specs that are not on it, a keeper for each, and how
// many those are.
func (a *Agent) seatFresh(specs []*Spec, old *roll) (next *roll, fresh int) {
	var names []string
	var first []*Spec
	for _, s := range specs {
		if old.keeper(s.Name) == nil {
			names, first = append(names, s.Name), append(first, s)
		}
	}
	return old.with(len(specs)-len(names), names, func(i int, s *seat) {
		k := &keeper{a: a, seat: s, slot: -1}
		k.keeper.Store(k)
		k.adopt(first[i])
		k.setSinks(first[i].Sinks)
	}), len(names)
}

// restore gives keepers that are on next but not on old what the state knows of
// them. What is still valid is published at once; of another source only the
// numbers are kept.
func (a *Agent) restore(old, next *roll, now Instant) error {
	return loadEach(a.store, BucketTokens, func(name string, value []byte) error {
		if k := next.keeper(name); k != nil && old.keeper(name) == nil {
			return k.decode(value, now)
		}
		return nil
	})
}

// decode takes what was saved of a token as its record.
func (k *keeper) decode(value []byte, now Instant) error {
	r, read, suspect, err := decodeRecord(value, now, k.a.bootID)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.readAt = seconds(read - k.a.origin)
	k.restore(r, suspect, now)
	return nil
}

func (k *keeper) restore(r record, suspect bool, now Instant) {
	if r.fingerprint != k.src.Traits().Fingerprint {
		k.rec = r
		k.remind(now)
		k.rec, k.foreign = record{generation: r.generation, revision: r.revision}, r.has()
		return
	}
	r.fingerprint = k.src.Traits().Fingerprint // share the string
	k.rec, k.suspect = r, suspect
	k.adjust(now)
	if r.loggedOut {
		k.sayLoggedOut(now)
		return
	}
	k.holdTried(now)
	if r.spending {
		// A crash cut off a request that spent the refresh token.
		k.rec.spending = false
		k.count(Ambiguous)
		if k.ambiguous++; !k.src.Traits().ReuseSafe {
			k.rec.refreshToken, k.rec.dead = Secret{}, true
			k.over = !k.src.Traits().SelfStart // the config may bring another one
			k.ended = k.over
			if k.over && k.src.Traits().NeedsPerson {
				k.loginUnlessPerson(now, "a crash cut off a refresh that spends its token")
			}
		}
	}
	if end := k.rec.hardEnd(k.src.Traits().Session); end != 0 && k.rec.expiry > end {
		k.rec.expiry = end
	}
	if k.rec.has() && k.rec.expiry > now.Boot && !suspect {
		k.publish(now)
		k.a.log.Info(MsgRestored, KeyToken, k.name, KeyGeneration, r.generation, KeyExpires, now.At(k.rec.expiry).UTC())
		return
	}
	k.remind(now)
	if !suspect && k.rec.has() {
		for _, d := range k.sinks { // it expired while nobody looked
			d.owed, d.withdraw = false, true
			k.deliver(d)
		}
	}
}

// holdTried has a login wait that failed just before this start, or agents that start
// again and again would ask each time for what no try brings, such as a person's
// second factor. The first start after a failure tries: what was wrong may have been
// mended. k.mu is held.
func (k *keeper) holdTried(now Instant) {
	wait := misconfiguredWaits[0]
	if k.rec.has() && k.rec.expiry > now.Boot {
		wait = min(wait, k.lead()/8)
	}
	tried := min(k.rec.tried, now.Boot)
	if !k.rec.retried || tried+wait <= now.Boot {
		return
	}
	k.login.notBefore = tried + wait
	kind := Misconfigured
	if k.rec.forPerson {
		kind = NeedsHuman
	}
	k.login.problem = &Problem{Step: StepLogin, Kind: kind, Detail: "it failed just before the agent was started", Hint: "it is tried again by itself",
		Since: now.At(tried), Until: now.At(k.login.notBefore)}
}

// remind tells the sinks of a token that is not published what an earlier process
// may have left in their places. k.mu is held.
func (k *keeper) remind(now Instant) {
	if !k.rec.has() || k.current.Load() != nil {
		return
	}
	p := k.publication(now)
	for _, d := range k.sinks {
		if r, ok := d.sink.(Rememberer); ok && !d.busy {
			r.Remember(p)
		}
	}
}

// take moves a running keeper to a new spec.
func (k *keeper) take(s *Spec, now Instant) {
	k.mu.Lock()
	old := k.src.Traits()
	another := old.Fingerprint != s.Source.Traits().Fingerprint
	k.adopt(s)
	if is := k.src.Traits(); !slices.Equal(old.Hosts, is.Hosts) || old.Limits != is.Limits {
		k.unqueue() // it would wait for the old host
	}
	gone := k.setSinks(s.Sinks)
	k.remind(now)
	if k.held(now) || k.renewing {
		// A changed config ends what waited for one. Of many the last is tried in a
		// minute, since what the others left out may be in that.
		if wait := k.spend(now, "a reload", time.Minute); wait == 0 {
			k.epoch++
			k.free()
		} else {
			k.login.notBefore = min(k.login.notBefore, now.Boot+wait)
			k.refresh.notBefore = min(k.refresh.notBefore, now.Boot+wait)
		}
	}
	switch {
	case another:
		// The old value stays published as it is until the new source brings
		// one; view sees by the fingerprint that it is due at once.
		k.login.clear()
		k.refresh.clear()
		k.over, k.ended, k.preferLogin, k.rec.loggedOut = false, false, false, false
		if p := k.current.Load(); p != nil && !k.moved() && p.Generation != k.rec.generation {
			k.publish(now) // it came while the config named another source
		}
		for _, d := range k.sinks {
			d.owed = d.owed || k.valid(now)
		}
	case k.valid(now) && k.looksOther(now):
		k.rec.revision++
		k.saveSoon()
		k.publish(now)
	case k.valid(now):
		for _, d := range k.sinks {
			d.owed, d.retry = true, 0 // settings may have changed; the same bytes are not written again
		}
	}
	k.retire(gone)
	k.mu.Unlock()
	if another {
		k.a.dropSignIn(k)
	}
	k.a.push(k, 0)
}

// adopt takes over what s says but for its sinks. It keeps nothing of s.
func (k *keeper) adopt(s *Spec) {
	k.src, k.atStart, k.when = s.Source, s.SecretAtStart, nil
	if s.Renew != (Renew{}) {
		renew := s.Renew
		k.when = &renew
	}
	k.access.Store(s.Access)
}

// renewal is the schedule that the config asks for.
func (k *keeper) renewal() Renew {
	if k.when == nil {
		return Renew{}
	}
	return *k.when
}

// held says that a renewal is put off. k.mu is held.
func (k *keeper) held(now Instant) bool {
	return k.login.notBefore > now.Boot || k.refresh.notBefore > now.Boot
}

// looksOther says that the new spec presents the token, or sees its session's
// end, otherwise than what is published. k.mu is held.
func (k *keeper) looksOther(now Instant) bool {
	was, is := k.current.Load(), k.describe(&Publication{Name: k.name, Token: k.rec.token}, now)
	h1, v1 := was.Header()
	h2, v2 := is.Header()
	q1, u1 := was.Query()
	q2, u2 := is.Query()
	return h1 != h2 || v1 != v2 || q1 != q2 || u1 != u2 || was.Type != is.Type || was.SessionExpiresAt.IsZero() != is.SessionExpiresAt.IsZero() ||
		was.SessionExpiresAt.Sub(is.SessionExpiresAt).Abs() > time.Second
}

// setSinks replaces the sinks, keeping what is known of those that stay; it
// returns those that are gone. The new sink objects win: their settings may have
// changed. k.mu is held.
func (k *keeper) setSinks(sinks []Sink) (gone []*delivery) {
	old := map[string]*delivery{}
	for _, d := range k.sinks {
		old[d.sink.ID()] = d
	}
	next := make([]*delivery, 0, len(sinks))
	valid := k.valid(k.a.now())
	for _, s := range sinks {
		d := old[s.ID()]
		delete(old, s.ID())
		if d == nil {
			d = &delivery{}
		}
		d.sink, d.owed = s, d.owed || valid // its settings may have changed
		next = append(next, d)
	}
	for _, d := range old {
		gone = append(gone, d)
	}
	k.sinks = next
	return gone
}

// remove ends the keepers on old whose tokens left the config: all at once for
// readers, however slow the disk.
func (a *Agent) remove(specs []*Spec, old *roll) {
	named := make(map[string]bool, len(specs))
	for _, s := range specs {
		named[s.Name] = true
	}
	var tombs []Change
	for k := range old.all() {
		if named[k.name] {
			continue
		}
		k.mu.Lock()
		k.removed = true
		k.vacate()
		k.retire(k.sinks)
		if !k.renewing { // else once that has saved what it brings
			tombs = append(tombs, k.tomb()...)
		}
		k.wake()
		k.mu.Unlock()
		a.dropSignIn(k)
		a.limits.forget(k)
	}
	a.bury(tombs)
}

// tomb leaves of a token only its numbers in the state, so that one of that name never
// goes back to an old generation. k.mu is held.
func (k *keeper) tomb() []Change {
	r := record{generation: k.rec.generation, revision: k.rec.revision}
	value, err := r.encode(nil, k.a.now(), k.a.bootID)
	if err != nil {
		return nil
	}
	return []Change{{BucketTokens, k.name, value}}
}

func (a *Agent) bury(tombs []Change) {
	if len(tombs) == 0 {
		return
	}
	if err := a.save(a.lasting, longestPatience, tombs...); err != nil {
		a.stateFailed(err)
	}
}

// buryLate buries k, whose background work outlasted its token's time in the config,
// unless another keeper has taken over its record since.
func (a *Agent) buryLate(k *keeper) {
	a.applying.Lock()
	defer a.applying.Unlock()
	if a.roll.Load().keeper(k.name) != nil {
		return
	}
	k.mu.Lock()
	tomb := k.tomb()
	k.mu.Unlock()
	a.bury(tomb)
}

// retire withdraws sinks that left the config, after what they are busy with.
// k.mu is held.
func (k *keeper) retire(gone []*delivery) {
	for _, d := range gone {
		d.gone = true
		if !d.busy {
			k.deliver(d)
		}
	}
}

// Stopped tells every sink that the agent stops; call it after Run returned.
func (a *Agent) Stopped(ctx context.Context) {
	for k := range a.roll.Load().all() {
		k.mu.Lock()
		sinks := slices.Clone(k.sinks)
		k.mu.Unlock()
		for _, d := range sinks {
			k.withdraw(ctx, d.sink, WithdrawStopped)
		}
	}
}

// Superseded withdraws the sinks that left the config, specs being what another
// process is going to run; call it after Run returned, instead of Stopped.
func (a *Agent) Superseded(ctx context.Context, specs []*Spec) {
	next := make(map[string][]Sink, len(specs))
	for _, s := range specs {
		next[s.Name] = s.Sinks
	}
	for k := range a.roll.Load().all() {
		k.mu.Lock()
		sinks := slices.Clone(k.sinks)
		k.mu.Unlock()
		for _, d := range sinks {
			if !slices.ContainsFunc(next[k.name], func(s Sink) bool { return s.ID() == d.sink.ID() }) {
				k.withdraw(ctx, d.sink, WithdrawRemoved)
			}
		}
	}
}

// withdraw tells a sink for good that there is no token any more.
func (k *keeper) withdraw(ctx context.Context, s Sink, why WithdrawReason) {
	if err := s.Withdraw(ctx, why); err != nil {
		k.a.log.Error(MsgSinkFailed, KeyToken, k.name, KeySink, s.ID(), KeyError, err)
	}
}

// Names lists the tokens in order.
func (a *Agent) Names() []string { return a.roll.Load().names() }

// sourceOf finds the source of a name if it is still the one that fingerprint
// names.
func (a *Agent) sourceOf(name, fingerprint string) Source {
	k := a.roll.Load().keeper(name)
	if k == nil {
		return nil
	}
	if src := k.source(); src.Traits().Fingerprint == fingerprint {
		return src
	}
	return nil
}
