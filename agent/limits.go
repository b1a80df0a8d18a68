package agent

import (
	"container/heap"
	"sync"
	"time"
)

// defaultConcurrency is how many requests one host sees at once unless its
// limits say otherwise.
const defaultConcurrency = 8

// limiter spreads requests over hosts. It never blocks: a keeper that may not
// send is queued, nearest expiry first, and handed back by ready.
type limiter struct {
	save   saveFunc
	bootID string

	mu    sync.Mutex
	conf  map[string]HostLimits // from the config; wins over what sources bring
	hosts map[string]*host
}

type host struct {
	lim      HostLimits
	inFlight int
	sent     []time.Duration // requests of the window, oldest first
	asked    []time.Duration // those of them that callers asked for
	waiting  [2]waiters      // scheduled renewals, and those that callers asked for

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

// configure replaces the configured limits; hosts in use take them over.
func (l *limiter) configure(conf map[string]HostLimits) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conf = conf
	for name, h := range l.hosts {
		if c, ok := conf[name]; ok {
			h.lim = c
		}
	}
}

func (l *limiter) host(name string, brought HostLimits) *host {
	h := l.hosts[name]
	if h == nil {
		h = newHost()
		l.hosts[name] = h
	}
	if c, ok := l.conf[name]; ok {
		h.lim = c
	} else if brought != (HostLimits{}) {
		h.lim = brought
	}
	return h
}

// take reserves one request for k, or queues k. It reports whether k may send.
func (l *limiter) take(k *keeper, t *Traits, now, expires time.Duration, asked bool) bool {
	if len(t.Hosts) == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.host(t.Hosts[0], t.Limits)
	q := &h.waiting[queue(asked)]
	if len(*q) == 0 && h.free(now, asked) {
		h.book(now, asked)
		h.inFlight++
		return true
	}
	heap.Push(q, waiter{k, expires})
	return false
}

// again books a further request of a renewal that already holds a place; it
// reports 0 or when the window lets it go.
func (l *limiter) again(t *Traits, now time.Duration, asked bool) time.Duration {
	if len(t.Hosts) == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.host(t.Hosts[0], t.Limits)
	if at := h.windowFree(now, asked); at > now {
		return at
	}
	h.book(now, asked)
	return 0
}

// release gives a place back and reports whether somebody waits for it.
func (l *limiter) release(t *Traits) bool {
	if len(t.Hosts) == 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.host(t.Hosts[0], t.Limits)
	h.inFlight--
	return len(h.waiting[0])+len(h.waiting[1]) > 0
}

// release gives a place back; the loop hands it to the next.
func (a *Agent) release(t *Traits) {
	if a.limits.release(t) {
		a.poke()
	}
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
func (l *limiter) ready(now time.Duration, start func(*keeper)) time.Duration {
	var admitted []*keeper
	next := forever
	l.mu.Lock()
	for _, h := range l.hosts {
		for _, asked := range []bool{false, true} {
			q := &h.waiting[queue(asked)]
			for len(*q) > 0 && h.free(now, asked) {
				w := heap.Pop(q).(waiter)
				h.book(now, asked)
				h.inFlight++
				admitted = append(admitted, w.k)
			}
			if at := h.windowFree(now, asked); len(*q) > 0 && at > now {
				next = min(next, at)
			}
		}
	}
	l.mu.Unlock()
	for _, k := range admitted {
		start(k)
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
	most := h.lim.Concurrency
	if most == 0 {
		most = defaultConcurrency
	}
	return h.inFlight < most && h.windowFree(now, asked) <= now
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
	k       *keeper
	expires time.Duration
}

// waiters is a heap by expiry.
type waiters []waiter

func (w waiters) Len() int           { return len(w) }
func (w waiters) Less(i, j int) bool { return w[i].expires < w[j].expires }
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
