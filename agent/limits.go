package agent

import (
	"container/heap"
	"slices"
	"sync"
	"time"
)

// defaultConcurrency is how many requests one host sees at once unless its
// limits say otherwise.
const defaultConcurrency = 8

// limiter spreads requests over hosts. It never blocks: a keeper that may not
// send is queued, nearest expiry first among those that have not failed, and handed
// back by ready.
type limiter struct {
	save   saveFunc
	bootID string

	mu      sync.Mutex
	conf    map[string]HostLimits // from the config; wins over what sources bring
	sources map[string]HostLimits // what the sources of the config bring
	hosts   map[string]*host
}

type host struct {
	lim      HostLimits
	inFlight int
	sent     []time.Duration // requests of the window, oldest first
	asked    []time.Duration // those of them that callers asked for
	waiting  [2]waiters      // scheduled renewals, and those that callers asked for
	logouts  int             // under way
	delayed  bool            // some wait for a place

	writing chan struct{} // serialises writes, so that the newest is the last
	booked  int           // by this process
	later   time.Duration // the last write failed: none before this
	ahead   int           // requests that may be booked before the state must be written; below 0: some are not in it
}

func newHost() *host { return &host{writing: make(chan struct{}, 1)} }

// queue is the index into waiting.
func queue(asked bool) int {
	if asked {
		return 1
	}
	return 0
}

// openLimiter makes a limiter that knows what was sent before a restart.
func openLimiter(conf map[string]HostLimits, store Store, save saveFunc, now Instant, bootID string) (*limiter, error) {
	l := &limiter{conf: conf, hosts: map[string]*host{}, save: save, bootID: bootID}
	return l, l.load(store, now)
}

// configure replaces the limits of the config and of its sources; hosts in use take
// them over.
func (l *limiter) configure(conf map[string]HostLimits, specs []*Spec) {
	sources := map[string]HostLimits{}
	for _, s := range specs {
		if t := s.Source.Traits(); len(t.Hosts) > 0 && t.Limits != (HostLimits{}) {
			sources[t.Hosts[0]] = t.Limits
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conf, l.sources = conf, sources
	for name, h := range l.hosts {
		h.lim = l.limitsOf(name)
	}
}

func (l *limiter) limitsOf(name string) HostLimits {
	if c, ok := l.conf[name]; ok {
		return c
	}
	return l.sources[name]
}

// host finds a host. brought is what a source has for it that is in no config.
func (l *limiter) host(name string, brought HostLimits) *host {
	h := l.hosts[name]
	if h == nil {
		h = newHost()
		l.hosts[name] = h
	}
	if h.lim = l.limitsOf(name); h.lim == (HostLimits{}) {
		h.lim = brought
	}
	return h
}

// take books a request for k and gives it a place, or queues k. It reports whether
// k may send.
func (l *limiter) take(k *keeper, t *Traits, now, rank time.Duration, asked bool) (place, bool) {
	if len(t.Hosts) == 0 {
		return place{}, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.host(t.Hosts[0], t.Limits)
	q := &h.waiting[queue(asked)]
	if len(*q) == 0 && h.free(now, asked) {
		return h.admit(now, asked), true
	}
	heap.Push(q, waiter{k, rank})
	return place{}, false
}

// opens is when the window of a host has room, 0 where nothing limits it.
func (l *limiter) opens(t *Traits, now time.Duration, asked bool) time.Duration {
	if len(t.Hosts) == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.host(t.Hosts[0], t.Limits).windowFree(now, asked)
}

// once books a request that belongs to no renewal; it reports 0 or when the window
// lets it go.
func (l *limiter) once(t *Traits, now time.Duration) time.Duration {
	if len(t.Hosts) == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.host(t.Hosts[0], t.Limits)
	if at := h.windowFree(now, false); at > now {
		return at
	}
	h.book(now, false)
	return 0
}

// enter gives a place to a logout, which no window counts. Logouts get at most half of
// the places, since a server may hang over them; of a single one they take none away.
// Whoever gets none is told when one comes free.
func (l *limiter) enter(t *Traits) (place, bool) {
	if len(t.Hosts) == 0 {
		return place{}, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.host(t.Hosts[0], t.Limits)
	p := place{h: h, spent: true, logout: true, apart: h.most() == 1}
	if h.logouts >= max(1, h.most()/2) || !p.apart && h.inFlight >= h.most() {
		h.delayed = true
		return place{}, false
	}
	h.logouts++
	if !p.apart {
		h.inFlight++
	}
	return p, true
}

// again books a further request for p, unless its latest was not sent; it reports 0
// or when the window lets it go.
func (l *limiter) again(p *place, now time.Duration, asked bool) time.Duration {
	if p.h == nil || !p.spent {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if at := p.h.windowFree(now, asked); at > now {
		return at
	}
	p.h.book(now, asked)
	p.booked, p.asked, p.spent = now, asked, false
	return 0
}

// release ends p, takes back its booking if nothing was sent, and reports whether
// somebody waits for either.
func (l *limiter) release(p *place) bool {
	if p.h == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !p.spent {
		p.h.unbook(p.booked, p.asked)
	}
	if p.logout {
		p.h.logouts--
	}
	if !p.apart {
		p.h.inFlight--
	}
	wanted := len(p.h.waiting[0])+len(p.h.waiting[1]) > 0 || p.h.delayed
	p.h.delayed = false
	return wanted
}

// forget takes k out of every queue.
func (l *limiter) forget(k *keeper) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.hosts {
		for q := range h.waiting {
			h.waiting[q].remove(k)
		}
	}
}

// ready calls start for every queued keeper that now holds a reservation and
// returns when the next window opens (forever if none waits for one).
func (l *limiter) ready(now time.Duration, start func(*keeper, place)) time.Duration {
	type ticket struct {
		k *keeper
		p place
	}
	var admitted []ticket
	next := forever
	l.mu.Lock()
	for _, h := range l.hosts {
		for _, asked := range []bool{false, true} {
			q := &h.waiting[queue(asked)]
			for len(*q) > 0 && h.free(now, asked) {
				w := heap.Pop(q).(waiter)
				admitted = append(admitted, ticket{w.k, h.admit(now, asked)})
			}
			if at := h.windowFree(now, asked); len(*q) > 0 && at > now {
				next = min(next, at)
			}
		}
	}
	l.mu.Unlock()
	for _, t := range admitted {
		start(t.k, t.p)
	}
	return next
}

// waitingByHost counts who waits for what, for status and metrics.
func (l *limiter) waitingByHost() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := make(map[string]int, len(l.hosts))
	for name, h := range l.hosts {
		m[name] = len(h.waiting[0]) + len(h.waiting[1])
	}
	return m
}

func (h *host) free(now time.Duration, asked bool) bool {
	return h.inFlight < h.most() && h.windowFree(now, asked) <= now
}

// most is how many requests may be under way.
func (h *host) most() int {
	if h.lim.Concurrency == 0 {
		return defaultConcurrency
	}
	return h.lim.Concurrency
}

// windowFree is when the window of requests has room; callers get a third of it.
func (h *host) windowFree(now time.Duration, asked bool) time.Duration {
	if h.lim.Requests == 0 {
		return now
	}
	h.prune(now)
	at := now
	if len(h.sent) >= h.lim.Requests {
		at = h.sent[len(h.sent)-h.lim.Requests] + h.lim.Per
	}
	if third := max(1, h.lim.Requests/3); asked && len(h.asked) >= third {
		at = max(at, h.asked[len(h.asked)-third]+h.lim.Per)
	}
	return at
}

// admit books a request and gives it a place.
func (h *host) admit(now time.Duration, asked bool) place {
	h.book(now, asked)
	h.inFlight++
	return place{h: h, booked: now, asked: asked}
}

func (h *host) book(now time.Duration, asked bool) {
	if h.lim.Requests == 0 {
		return
	}
	h.sent = append(h.sent, now)
	h.booked++
	h.ahead--
	if asked {
		h.asked = append(h.asked, now)
	}
}

// unbook takes back a request that was booked and not sent.
func (h *host) unbook(at time.Duration, asked bool) {
	if !drop(&h.sent, at) {
		return // it has left the window, or there is none
	}
	h.booked--
	h.ahead++
	if asked {
		drop(&h.asked, at)
	}
}

// drop takes the last t out of times and reports whether there was one.
func drop(times *[]time.Duration, t time.Duration) bool {
	for i, at := range slices.Backward(*times) {
		if at == t {
			*times = slices.Delete(*times, i, i+1)
			return true
		}
	}
	return false
}

// prune forgets what has left the window.
func (h *host) prune(now time.Duration) {
	h.sent = since(h.sent, now-h.lim.Per)
	h.asked = since(h.asked, now-h.lim.Per)
}

// since drops the times at or before t from a sorted list.
func since(times []time.Duration, t time.Duration) []time.Duration {
	i := 0
	for i < len(times) && times[i] <= t {
		i++
	}
	return times[i:]
}

type waiter struct {
	k    *keeper
	rank time.Duration
}

// waiters is a heap by rank.
type waiters []waiter

func (w waiters) Len() int           { return len(w) }
func (w waiters) Less(i, j int) bool { return w[i].rank < w[j].rank }
func (w waiters) Swap(i, j int)      { w[i], w[j] = w[j], w[i] }
func (w *waiters) Push(x any)        { *w = append(*w, x.(waiter)) }
func (w *waiters) Pop() any {
	old := *w
	n := len(old) - 1
	x := old[n]
	old[n] = waiter{}
	*w = old[:n]
	return x
}

func (w *waiters) remove(k *keeper) {
	for i := range *w {
		if (*w)[i].k == k {
			heap.Remove(w, i)
			return
		}
	}
}
