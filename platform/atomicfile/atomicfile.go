// Package atomicfile puts small files in place whole and durable: a reader sees
// the old content or the new one, never a mixture, and after a crash too.
//
// A [Writer] opens the target's directory once per call, verifies every
// directory above it, and creates, fills, renames and fsyncs through that one
// descriptor, so nothing that is swapped underneath leads it elsewhere. Owner and
// mode are on the new file before its first byte. Writers into one directory
// share its fsyncs: each waits for one that began after its own rename.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
)

// Access says who may open a file. The zero value means mode 0600, owned by the
// process. On Windows Owner and Group become access control entries and Mode is
// not used.
type Access struct {
	Mode  fs.FileMode // permission bits; 0: 0600
	Owner string      // account name or number; empty: the process's user
	Group string      // group name or number; empty: not judged
}

func (a Access) mode() fs.FileMode {
	if m := a.Mode.Perm(); m != 0 {
		return m
	}
	return 0o600
}

// Outcome is what Put did, or what Compare found that it would do.
type Outcome int

const (
	Unchanged Outcome = iota // content and access are as asked
	Repaired                 // only mode or owner differed
	Replaced                 // the content differed
	Created                  // there was no file
)

func (o Outcome) String() string {
	return [...]string{"unchanged", "repaired", "replaced", "created"}[o]
}

var (
	// ErrUnsafeDir means that someone beside root and the process could swap
	// what stands in or above the target's directory.
	ErrUnsafeDir = errors.New("directory is not safe")
	// ErrUnsafeTarget means that the target is something a rename must not
	// replace: a symlink, FIFO, device, directory, or a file of several names.
	ErrUnsafeTarget = errors.New("target is not a plain file of one name")
)

// Error says what could not be done to which path and what to do about it.
type Error struct {
	Op   string // "write", "open directory"
	Path string
	Err  error
	Hint string // what to type or change; may be empty
}

func (e *Error) Error() string { return fmt.Sprintf("%s %q: %v", e.Op, e.Path, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Writer puts files in place. It is safe for concurrent use, and sharing one is
// what makes many writes into one directory cheap.
type Writer struct {
	fault func(step string) error // set by tests to make one step fail

	mu     sync.Mutex
	dirs   map[dirID]*shared
	opened map[string]*opened
}

// NewWriter returns a Writer.
func NewWriter() *Writer {
	return &Writer{dirs: make(map[dirID]*shared), opened: make(map[string]*opened)}
}

// Stamp tells whether a file is still as Put left it: whatever is done to a file
// changes it. The zero Stamp is unknown and equals that of no file.
type Stamp struct {
	dev, ino  uint64
	size      int64
	sec, nsec int64 // of the last change of content, access or name
}

// at is called before each step that may fail.
func (w *Writer) at(step string) error {
	if w.fault == nil {
		return nil
	}
	return w.fault(step)
}

// parallel bounds the writes under way in one directory: each holds two
// descriptors, and on a filesystem that hangs perhaps a thread.
const parallel = 256

// shared is what all writes into one directory have in common. It lives as long
// as the Writer.
type shared struct {
	memory bool // there is no disk below: nothing is flushed
	slots  chan struct{}
	files  flusher
	group  syncGroup
	sweep  sync.Once
}

func (w *Writer) shared(id dirID, memory func() bool) *shared {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.dirs[id]
	if s == nil {
		s = &shared{slots: make(chan struct{}, parallel), memory: memory()}
		s.group.changed.Store(1) // what an earlier process renamed may not be durable yet
		w.dirs[id] = s
	}
	return s
}

// maxSize bounds what is read back; nothing that renewd writes is near it.
const maxSize = 4 << 20

const (
	tempPrefix = ".renewd-"
	tempSuffix = ".tmp"
	tempRandom = 26 // letters of crypto/rand.Text
)

// isTemp reports whether name is one that a Writer gives its temporary files.
func isTemp(name string) bool {
	if len(name) != len(tempPrefix)+tempRandom+len(tempSuffix) ||
		!strings.HasPrefix(name, tempPrefix) || !strings.HasSuffix(name, tempSuffix) {
		return false
	}
	for _, c := range name[len(tempPrefix) : len(name)-len(tempSuffix)] {
		if (c < 'A' || c > 'Z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}
