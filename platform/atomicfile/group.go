package atomicfile

import (
	"sync"
	"sync/atomic"
)

// syncGroup lets many writers wait for one fsync of their directory. Whoever
// joins a round has made its change before, and the round's fsync begins after
// the last of them joined, so it covers them all.
type syncGroup struct {
	changed atomic.Uint64 // changes made to the directory
	durable atomic.Uint64 // those of them an fsync has covered

	turn sync.Mutex // one fsync at a time; the rest gather for the next

	mu   sync.Mutex
	next *round // has not begun yet
}

type round struct {
	done chan struct{}
	err  error
}

// dirty reports whether a change may not be durable: an fsync failed or has not
// ended.
func (g *syncGroup) dirty() bool { return g.durable.Load() < g.changed.Load() }

// wait returns when a call of fsync that began after wait was called has ended.
func (g *syncGroup) wait(fsync func() error) error {
	g.mu.Lock()
	if r := g.next; r != nil {
		g.mu.Unlock()
		<-r.done
		return r.err
	}
	r := &round{done: make(chan struct{})}
	g.next = r
	g.mu.Unlock()

	g.turn.Lock()
	defer g.turn.Unlock()
	g.mu.Lock()
	g.next = nil // who comes from here on needs a later fsync
	g.mu.Unlock()
	covers := g.changed.Load()
	if r.err = fsync(); r.err == nil {
		g.durable.Store(covers)
	}
	close(r.done)
	return r.err
}
