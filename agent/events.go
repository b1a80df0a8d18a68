package agent

import (
	"sync"
	"time"
)

// EventKind says what changed.
type EventKind string

const (
	EventToken  EventKind = "token"  // a new generation is published
	EventClocks EventKind = "clocks" // the same value with other clocks
	EventState  EventKind = "state"  // the token's state changed
)

// Event is one change of one token; it never holds the value.
type Event struct {
	ID         uint64    `json:"id"`
	Kind       EventKind `json:"event"`
	Name       string    `json:"name"`
	Generation uint64    `json:"generation"`
	Revision   uint64    `json:"revision"`
	State      State     `json:"state"`
	Time       time.Time `json:"time"`
}

const keptEvents = 1024

// events is the ring of the latest events and who listens to it.
type events struct {
	mu   sync.Mutex
	last uint64
	ring []Event
	subs map[*Subscription]struct{}
}

// Subscription receives events until it is closed. One that does not keep up is
// closed by the agent: C is then closed.
type Subscription struct {
	C      <-chan Event
	c      chan Event
	e      *events
	closed bool
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	s.close()
}

func (s *Subscription) close() {
	if !s.closed {
		s.closed = true
		delete(s.e.subs, s)
		close(s.c)
	}
}

// Subscribe listens to all events. Where after is the ID of an event that is
// still kept, those since come back as missed and resumed is true.
func (a *Agent) Subscribe(after uint64) (s *Subscription, missed []Event, resumed bool) {
	e := &a.events
	e.mu.Lock()
	defer e.mu.Unlock()
	c := make(chan Event, 256)
	s = &Subscription{C: c, c: c, e: e}
	if e.subs == nil {
		e.subs = map[*Subscription]struct{}{}
	}
	e.subs[s] = struct{}{}
	first := e.last - uint64(len(e.ring)) // ID before the oldest kept
	if after == 0 || after < first || after > e.last {
		return s, nil, false
	}
	for i := after; i < e.last; i++ {
		missed = append(missed, e.ring[i%keptEvents])
	}
	return s, missed, true
}

func (a *Agent) emit(kind EventKind, name string, generation, revision uint64, state State) {
	e := &a.events
	e.mu.Lock()
	defer e.mu.Unlock()
	ev := Event{e.last + 1, kind, name, generation, revision, state, a.now().Wall}
	if len(e.ring) < keptEvents {
		e.ring = append(e.ring, ev)
	} else {
		e.ring[e.last%keptEvents] = ev
	}
	e.last++
	for s := range e.subs {
		select {
		case s.c <- ev:
		default:
			s.close()
		}
	}
}
