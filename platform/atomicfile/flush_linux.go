package atomicfile

import (
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

// flush returns when fd's content and size are durable.
func (g *flusher) flush(fd int) error {
	g.mu.Lock()
	if b := g.next; b != nil {
		b.members++
		g.mu.Unlock()
		return b.await(fd)
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
	b.whole = n >= worthOne && unix.Syncfs(fd) == nil
	close(b.done)
	return b.settle(fd)
}

func (b *batch) await(fd int) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-b.done:
		return b.settle(fd)
	case <-late.C:
		return fsync(fd)
	}
}

// settle asks for the errors of fd's own writeback, which syncfs does not report
// before Linux 5.8; nothing is left to wait for.
func (b *batch) settle(fd int) error {
	if !b.whole {
		return fsync(fd)
	}
	if unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WAIT_BEFORE) != nil {
		return fsync(fd)
	}
	return nil
}

// fsync makes a file durable.
func fsync(fd int) error {
	for {
		if err := unix.Fsync(fd); err != unix.EINTR {
			return err
		}
	}
}

// inMemory reports whether fd is on a filesystem that has no disk below: nothing
// there can be made durable.
func inMemory(fd int) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return false
	}
	return st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC
}
