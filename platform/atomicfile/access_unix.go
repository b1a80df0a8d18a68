//go:build unix

package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// owner is an Access in numbers; -1 leaves uid or gid alone.
type owner struct {
	uid, gid int
	mode     fs.FileMode
}

func (a Access) resolve(path string) (owner, error) {
	o := owner{uid: -1, gid: -1, mode: a.mode()}
	var err error
	if a.Owner != "" {
		o.uid, err = number(a.Owner, func(name string) (string, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		})
	}
	if err == nil && a.Group != "" {
		o.gid, err = number(a.Group, func(name string) (string, error) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		})
	}
	if err != nil {
		return o, &Error{Op: "find the owner of", Path: path, Err: err, Hint: "name an account and a group that this machine has"}
	}
	return o, nil
}

// number reads a uid or gid; a name goes before a number, as in chown(1).
func number(s string, lookup func(string) (string, error)) (int, error) {
	id, err := lookup(s)
	if err != nil {
		if n, nerr := strconv.ParseUint(s, 10, 31); nerr == nil {
			return int(n), nil
		}
		return -1, err
	}
	return strconv.Atoi(id)
}

// matches reports whether the file is as asked. A group that was not asked for
// is the directory's affair (setgid) and is not judged.
func (o owner) matches(st *unix.Stat_t) bool {
	uid := o.uid
	if uid < 0 {
		uid = os.Geteuid()
	}
	return st.Uid == uint32(uid) && (o.gid < 0 || st.Gid == uint32(o.gid)) && fs.FileMode(st.Mode&0o7777) == o.mode
}

// plain refuses all that a rename over it would break.
func plain(st *unix.Stat_t) error {
	what := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if st.Nlink > 1 {
			what = fmt.Sprintf("it has %d hard links", st.Nlink)
		}
	case unix.S_IFLNK:
		what = "it is a symlink"
	case unix.S_IFIFO:
		what = "it is a FIFO"
	case unix.S_IFDIR:
		what = "it is a directory"
	case unix.S_IFSOCK:
		what = "it is a socket"
	default:
		what = "it is a device"
	}
	if what == "" {
		return nil
	}
	return fmt.Errorf("%s: %w", what, ErrUnsafeTarget)
}

// chownError marks an EPERM that is about the owner, not about the directory.
type chownError struct{ err error }

func (e *chownError) Error() string { return "change the owner: " + e.err.Error() }
func (e *chownError) Unwrap() error { return e.err }

// fail wraps what went wrong with a target, nil stays nil.
func (d *dir) fail(op, name string, err error, a Access) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	path := filepath.Join(d.path, name)
	h := hint(err, d.path)
	_, chown := errors.AsType[*chownError](err)
	switch {
	case chown && a.Owner != "":
		h = "only root may give a file away: leave `owner` out and let a `group` read it"
	case chown:
		h = fmt.Sprintf("make the agent a member of the group: in the unit, SupplementaryGroups=%s", a.Group)
	case errors.Is(err, ErrUnsafeTarget):
		h = "renewd does not replace it: rm " + quote(path)
	}
	return &Error{Op: op, Path: path, Err: err, Hint: h}
}

// hint says what to do about an errno met in dir.
func hint(err error, dir string) string {
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Sprintf("the agent makes no directory here: install -d -m 0755 -o %d %s", os.Geteuid(), quote(dir))
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Sprintf("let the agent's user (uid %d) write to %s; under systemd, ReadWritePaths=%s", os.Geteuid(), quote(dir), quote(dir))
	case errors.Is(err, unix.EROFS):
		return "the directory is read-only for the agent; under systemd, ReadWritePaths=" + quote(dir)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Sprintf("make room; what is full is shown by: df -h %[1]s; df -i %[1]s", quote(dir))
	case errors.Is(err, unix.ENOTDIR):
		return "a file stands where a directory is needed"
	}
	return ""
}
