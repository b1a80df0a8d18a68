//go:build unix

package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

type dirID struct{ dev, ino uint64 }

// dir is an open, verified directory.
type dir struct {
	*shared
	*opened
	w    *Writer
	path string
}

func (d *dir) fd() int { return int(d.f.Fd()) }

// opened is a directory that was verified a moment ago, for all who write into it
// meanwhile: the walk is a third of what a write costs where fsync is cheap.
type opened struct {
	f     *os.File
	st    unix.Stat_t
	users atomic.Int32
	seen  atomic.Int64 // when path last led here, Unix ns
}

const (
	keptOpen = time.Second           // how long the verification of the directories above is believed
	keptSeen = 10 * time.Millisecond // how long that of the directory itself is: a burst of writes
)

func (o *opened) close() {
	if o.users.Add(-1) == 0 {
		_ = o.f.Close()
	}
}

// still says that path leads to the directory that was verified, as it was then.
func (o *opened) still(path string) bool {
	now := time.Now().UnixNano()
	if d := now - o.seen.Load(); d >= 0 && d < int64(keptSeen) {
		return true
	}
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || st.Dev != o.st.Dev || st.Ino != o.st.Ino || st.Mode != o.st.Mode || st.Uid != o.st.Uid {
		return false
	}
	o.seen.Store(now)
	return true
}

// fsync makes every change of the directory so far durable.
func (d *dir) fsync() error {
	if d.memory {
		return d.w.at("fsync directory")
	}
	return d.group.wait(func() error {
		if err := d.w.at("fsync directory"); err != nil {
			return err
		}
		return d.f.Sync()
	})
}

// open walks to a directory and verifies all on the way. The first time that
// this Writer sees the directory it sweeps what a crash left there.
func (w *Writer) open(path string) (*dir, error) {
	o, err := w.verified(path)
	if err != nil {
		return nil, err
	}
	s := w.shared(dirID{uint64(o.st.Dev), o.st.Ino}, func() bool { return inMemory(int(o.f.Fd())) })
	d := &dir{shared: s, opened: o, w: w, path: path}
	s.sweep.Do(d.sweepTemps)
	return d, nil
}

// verified gives the directory at path to one more user, who closes it.
func (w *Writer) verified(path string) (*opened, error) {
	w.mu.Lock()
	o := w.opened[path]
	if o != nil {
		o.users.Add(1)
	}
	w.mu.Unlock()
	if o != nil {
		if o.still(path) {
			return o, nil
		}
		o.close()
	}
	f, st, err := walk(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	o = &opened{f: f, st: *st}
	o.users.Store(2) // the caller, and who comes until it is forgotten
	w.mu.Lock()
	w.opened[path] = o
	w.mu.Unlock()
	time.AfterFunc(keptOpen, func() {
		w.mu.Lock()
		if w.opened[path] == o {
			delete(w.opened, path)
		}
		w.mu.Unlock()
		o.close()
	})
	return o, nil
}

// VerifyDir reports whether path and every directory above it belong to root or
// to the process's user and are not writable by others, sticky ones excepted.
func VerifyDir(path string) error {
	f, _, err := walk(path, searchOnly)
	if err != nil {
		return err
	}
	return f.Close()
}

// walk opens path one name at a time without following symlinks by itself: each
// directory is judged by the descriptor that the next step starts from. how opens
// the last one: only what is open for reading can be fsynced.
func walk(path string, how int) (*os.File, *unix.Stat_t, error) {
	path = filepath.Clean(path)
	if !filepath.IsAbs(path) {
		return nil, nil, &Error{Op: "open directory", Path: path, Err: errors.New("path is not absolute")}
	}
	cur := walker{fd: -1, st: new(unix.Stat_t), how: how}
	err := cur.enter(unix.AT_FDCWD, "/", path == "/")
	for left := split(path); err == nil && len(left) > 0; {
		name := left[0]
		left = left[1:]
		err = cur.enter(cur.fd, name, len(left) == 0)
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
			left, err = cur.follow(name, left, err)
		}
	}
	if err != nil {
		cur.close()
		return nil, nil, err
	}
	return os.NewFile(uintptr(cur.fd), path), cur.st, nil
}

func split(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

type walker struct {
	fd    int
	at    string // where fd is
	st    *unix.Stat_t
	links int
	how   int
}

func (c *walker) close() {
	if c.fd >= 0 {
		_ = unix.Close(c.fd)
	}
	c.fd = -1
}

// enter steps into one directory and verifies it. All but the last may be
// search-only.
func (c *walker) enter(from int, name string, last bool) error {
	flags := searchOnly
	if last {
		flags = c.how
	}
	flags |= unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	at := filepath.Join(c.at, name)
	if name == "/" {
		at = name
	}
	fd, err := openat(from, name, flags, 0)
	if err != nil {
		return &Error{Op: "open directory", Path: at, Err: err, Hint: hint(err, at)}
	}
	c.close()
	c.fd, c.at = fd, at
	if err := unix.Fstat(fd, c.st); err != nil {
		return &Error{Op: "open directory", Path: at, Err: err}
	}
	return verify(at, c.st)
}

// follow resolves name where it is a symlink: its own directory has been
// verified, so only root and we can have changed it, but in a sticky directory
// anyone may have made it, hence the look at its owner.
func (c *walker) follow(name string, left []string, cause error) ([]string, error) {
	at := filepath.Join(c.at, name)
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(c.fd, name, buf)
	if err != nil {
		return nil, cause // not a symlink: a plain file in the way
	}
	var st unix.Stat_t
	if err := unix.Fstatat(c.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, &Error{Op: "open directory", Path: at, Err: err}
	}
	if !trusted(st.Uid) {
		return nil, unsafe(at, fmt.Sprintf("the symlink belongs to uid %d", st.Uid), "chown -h root "+quote(at))
	}
	if c.links++; c.links > 40 { // the kernel's own limit, path_resolution(7)
		return nil, &Error{Op: "open directory", Path: at, Err: unix.ELOOP}
	}
	target := string(buf[:n])
	left = append(split(target), left...)
	if !filepath.IsAbs(target) {
		if len(left) == 0 {
			left = []string{"."}
		}
		return left, nil
	}
	return left, c.enter(unix.AT_FDCWD, "/", len(left) == 0)
}

func trusted(uid uint32) bool { return uid == 0 || uid == uint32(os.Geteuid()) }

// verify judges one directory. A group that may write counts as others: renewd
// does not know who is in it.
func verify(path string, st *unix.Stat_t) error {
	if !trusted(st.Uid) {
		return unsafe(path, fmt.Sprintf("it belongs to uid %d, neither root nor the agent's user", st.Uid),
			fmt.Sprintf("chown %d %s", os.Geteuid(), quote(path)))
	}
	mode := fs.FileMode(st.Mode & 0o777)
	if mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0 {
		return unsafe(path, fmt.Sprintf("others may write to it (mode %04o)", mode), "chmod go-w "+quote(path))
	}
	return nil
}

func unsafe(path, why, mend string) error {
	return &Error{Op: "trust directory", Path: path, Err: fmt.Errorf("%s: %w", why, ErrUnsafeDir), Hint: mend}
}

// quote makes path one word for a shell where it needs it.
func quote(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool {
		return !strings.ContainsRune("/._-+:@,", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}

func openat(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}
