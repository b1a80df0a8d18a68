package main

import (
	"io"
	"sync"
	"time"
)

const (
	logQueued = 1 << 20         // bytes of the log that wait for a reader
	logDrain  = 2 * time.Second // how long the end of the process waits for them
)

// logQueue writes what it is given on a goroutine of its own, all that has
// gathered in one write. A reader of the log that has stopped, a terminal on
// Ctrl-S or a full pipe, holds up nobody: lines that find no room are dropped and
// counted.
type logQueue struct {
	w io.Writer

	mu      sync.Mutex
	lost    func(lines int)
	queued  []byte
	dropped int
	closed  bool
	more    chan struct{}
	drained chan struct{}
}

func newLogQueue(w io.Writer) *logQueue {
	q := &logQueue{w: w, more: make(chan struct{}, 1), drained: make(chan struct{})}
	go q.run()
	return q
}

// OnLost has f told, once there is room again, how many lines were dropped.
func (q *logQueue) OnLost(f func(lines int)) {
	q.mu.Lock()
	q.lost = f
	q.mu.Unlock()
}

// Unwrap gives what is written to in the end.
func (q *logQueue) Unwrap() io.Writer { return q.w }

// Write takes one record. It never fails.
func (q *logQueue) Write(record []byte) (int, error) {
	q.mu.Lock()
	if q.closed || len(q.queued)+len(record) > logQueued {
		q.dropped++
	} else {
		q.queued = append(q.queued, record...)
	}
	q.mu.Unlock()
	select {
	case q.more <- struct{}{}:
	default:
	}
	return len(record), nil
}

func (q *logQueue) run() {
	defer close(q.drained)
	var spare []byte
	for range q.more {
		q.mu.Lock()
		batch, dropped, closed, lost := q.queued, q.dropped, q.closed, q.lost
		q.queued, q.dropped = spare[:0], 0
		q.mu.Unlock()
		if len(batch) > 0 {
			_, _ = q.w.Write(batch) // there is nowhere to tell an error
		}
		if spare = batch; cap(spare) > 64<<10 {
			spare = nil // a flood has passed
		}
		if dropped > 0 && lost != nil && !closed {
			lost(dropped)
		}
		if closed {
			return
		}
	}
}

// Close writes what is left, but does not wait for ever. What comes later is
// dropped.
func (q *logQueue) Close() error {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	select {
	case q.more <- struct{}{}:
	default:
	}
	select {
	case <-q.drained:
	case <-time.After(logDrain):
	}
	return nil
}
