package atomicfile

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// worthOne is how many files it takes before one syncfs(2) is cheaper for all
	// than an fsync(2) each.
	worthOne = 8
	// syncfs also writes what other programs left dirty on the filesystem, which
	// may be gigabytes: after this long every writer helps itself.
	patience = 250 * time.Millisecond
)

// flusher makes the contents of new files durable, many at once with one call.
type flusher struct {
	turn sync.Mutex // one flush at a time; the rest gather for the next

	mu   sync.Mutex
	next *batch // has not begun yet
}

type batch struct {
	done    chan struct{}
	members int
	whole   bool // one syncfs covered all members
}

// flush returns when f's content and size are durable.
func (g *flusher) flush(f *os.File) error {
	g.mu.Lock()
	if b := g.next; b != nil {
		b.members++
		g.mu.Unlock()
		return b.await(f)
	}
	b := &batch{done: make(chan struct{}), members: 1}
	g.next = b
	g.mu.Unlock()

	g.turn.Lock()
	defer g.turn.Unlock()
	g.mu.Lock()
	g.next = nil // what is written from here on needs a later flush
	n := b.members
	g.mu.Unlock()
	b.whole = n >= worthOne && unix.Syncfs(int(f.Fd())) == nil
	close(b.done)
	return b.settle(f)
}

func (b *batch) await(f *os.File) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-b.done:
		return b.settle(f)
	case <-late.C:
		return f.Sync()
	}
}

// settle asks for the errors of f's own writeback, which syncfs does not report
// before Linux 5.8; nothing is left to wait for.
func (b *batch) settle(f *os.File) error {
	if !b.whole {
		return f.Sync()
	}
	if unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WAIT_BEFORE) != nil {
		return f.Sync()
	}
	return nil
}
