//go:build unix

package ipc

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// maxPath is what fits in sun_path before its NUL (unix(7)).
const maxPath = len(unix.RawSockaddrUnix{}.Path) - 1

// A socket is bound in a directory that only we may enter, and moved from there
// when owner and mode are on it.
const (
	privatePrefix = ".rnw-"
	privateName   = "s"
)

// Listen opens the socket, or takes the one that systemd hands over. A dead
// socket of an earlier agent is replaced; who may do so is settled by a lock on
// PATH.lock, which stays.
func Listen(o Options) (*Listener, error) {
	if l, err := activated(o); l != nil || err != nil {
		return l, err
	}
	dir := filepath.Dir(o.Path)
	if err := fits(o.Path, dir); err != nil {
		return nil, err
	}
	if err := trustedDir(dir); err != nil {
		return nil, fmt.Errorf("listen on %q: %w", o.Path, err)
	}
	gid, err := groupID(o.Group)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", o.Path, err)
	}
	lock, err := acquire(o.Path)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", o.Path, err)
	}
	l, err := o.listen(dir, gid, lock)
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("listen on %q: %w", o.Path, err)
	}
	return l, nil
}

func fits(path, dir string) error {
	longest := max(len(path), len(filepath.Join(dir, privatePrefix+"XXXX", privateName)))
	if longest > maxPath {
		return fmt.Errorf("listen on %q: the path needs %d bytes and the system allows %d; set socket.path to a shorter one", path, longest, maxPath)
	}
	return nil
}

// trustedDir refuses a directory where others could put a socket of their own in
// place of ours.
func trustedDir(dir string) error {
	fi, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st := fi.Sys().(*syscall.Stat_t)
	if st.Uid != 0 && st.Uid != uint32(os.Geteuid()) {
		return fmt.Errorf("its directory belongs to uid %d, neither root nor the agent's user: %w", st.Uid, ErrUntrusted)
	}
	if fi.Mode().Perm()&0o022 != 0 && fi.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("others may write to its directory; type: chmod go-w %s: %w", dir, ErrUntrusted)
	}
	return nil
}

// groupID reads a group's name or number; -1 for none.
func groupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	g, err := user.LookupGroup(group)
	if err == nil {
		return strconv.Atoi(g.Gid)
	}
	if n, nerr := strconv.ParseUint(group, 10, 31); nerr == nil {
		return int(n), nil
	}
	return -1, fmt.Errorf("find the group %q: %w", group, err)
}

// acquire takes the lock beside the socket. It is never removed: a lock on a
// removed file would be no lock.
func acquire(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		who := make([]byte, 20)
		n, _ := f.ReadAt(who, 0)
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w (pid %s)", ErrInUse, strings.TrimSpace(string(who[:n])))
		}
		return nil, fmt.Errorf("lock %q: %w", path+".lock", err)
	}
	_ = f.Truncate(0)
	_, _ = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return f, nil
}

// listen takes the socket that was kept, or makes one; the lock is held.
func (o Options) listen(dir string, gid int, lock *os.File) (*Listener, error) {
	kept, fi, err := o.resume(dir, gid)
	if err != nil {
		return nil, err
	}
	if kept != nil {
		return o.listener(kept, fi, lock, true), nil
	}
	if err := vacant(o.Path); err != nil {
		return nil, err
	}
	sweepPrivate(dir)
	private := filepath.Join(dir, privatePrefix+rand.Text()[:4])
	if err := os.Mkdir(private, 0o700); err != nil {
		return nil, err
	}
	defer os.RemoveAll(private)
	at := filepath.Join(private, privateName)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // by that time another may stand at the path
	if gid >= 0 {
		if err := os.Chown(at, -1, gid); err != nil {
			_ = l.Close()
			return nil, fmt.Errorf("give the socket to group %s; in the unit, SupplementaryGroups=%s: %w", o.Group, o.Group, err)
		}
	}
	err = os.Chmod(at, o.mode())
	if err == nil {
		fi, err = os.Lstat(at)
	}
	if err == nil {
		err = os.Rename(at, o.Path)
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return o.listener(l, fi, lock, false), nil
}

func (o Options) listener(l *net.UnixListener, fi os.FileInfo, lock *os.File, resumed bool) *Listener {
	out := &Listener{Listener: l, GID: int(fi.Sys().(*syscall.Stat_t).Gid), ID: inodeID(fi), Resumed: resumed}
	out.close = func() error {
		defer lock.Close()
		if now, err := os.Lstat(o.Path); err == nil && os.SameFile(now, fi) && !out.stays {
			return os.Remove(o.Path)
		}
		return nil
	}
	return out
}

// resume takes the socket that was kept, if it is the one at the path and as this
// process would make it. Where it is another's to be it goes: whoever dialled it
// would wait for nobody.
func (o Options) resume(dir string, gid int) (*net.UnixListener, os.FileInfo, error) {
	if o.Kept == nil {
		return nil, nil, nil
	}
	fi, err := os.Lstat(o.Path)
	if err != nil || fi.Mode().Type() != fs.ModeSocket || inodeID(fi) != o.KeptID {
		return nil, nil, nil
	}
	st := fi.Sys().(*syscall.Stat_t)
	if gid < 0 {
		gid = groupIn(dir)
	}
	if st.Uid == uint32(os.Geteuid()) && st.Gid == uint32(gid) && fi.Mode().Perm() == o.mode() {
		if got, err := net.FileListener(o.Kept); err == nil {
			if l, ok := got.(*net.UnixListener); ok {
				l.SetUnlinkOnClose(false)
				return l, fi, nil
			}
			_ = got.Close()
		}
	}
	return nil, nil, os.Remove(o.Path)
}

func inodeID(fi os.FileInfo) string {
	st := fi.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%x-%x", uint64(st.Dev), uint64(st.Ino))
}

// groupIn is the group of what this process makes in a directory.
func groupIn(dir string) int {
	if fi, err := os.Stat(dir); err == nil && fi.Mode()&fs.ModeSetgid != 0 {
		return int(fi.Sys().(*syscall.Stat_t).Gid)
	}
	return os.Getegid()
}

// vacant refuses to replace anything but a dead socket. Someone may listen
// without our lock, so it is dialled.
func vacant(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("there is something that is not a socket (%v); renewd does not replace it: remove it, or set socket.path", fi.Mode().Type())
	}
	c, err := net.DialTimeout("unix", path, 2*time.Second)
	if err == nil {
		_ = c.Close()
		return ErrInUse
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("ask whether it is in use: %w", err)
	}
	return nil
}

// sweepPrivate removes what a crash between bind and rename left.
func sweepPrivate(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, privatePrefix+"????"))
	for _, p := range left {
		_ = os.Remove(filepath.Join(p, privateName))
		_ = os.Remove(p)
	}
}

// activated takes the socket that systemd hands over. It stays as systemd made
// it: what differs from the config is said and nothing else.
func activated(o Options) (*Listener, error) {
	var l *net.UnixListener
	var warnings []string
	for _, f := range activation.Files(true) {
		got, err := net.FileListener(f)
		_ = f.Close()
		u, ok := got.(*net.UnixListener)
		switch {
		case err == nil && ok && l == nil:
			l = u
			l.SetUnlinkOnClose(false)
		case err == nil:
			_ = got.Close()
			warnings = append(warnings, fmt.Sprintf("systemd handed over %q too; it is not served", got.Addr()))
		default:
			warnings = append(warnings, fmt.Sprintf("systemd handed over %q, which is no listening stream socket", f.Name()))
		}
	}
	if l == nil {
		if len(warnings) > 0 {
			return nil, fmt.Errorf("take the socket from systemd: %s", strings.Join(warnings, "; "))
		}
		return nil, nil
	}
	out := &Listener{Listener: l, Activated: true, GID: -1, close: func() error { return nil }}
	path := l.Addr().String()
	if path != o.Path {
		warnings = append(warnings, fmt.Sprintf("systemd's socket is %q, the config says %q", path, o.Path))
	}
	if fi, err := os.Stat(path); err == nil {
		out.GID = int(fi.Sys().(*syscall.Stat_t).Gid)
		if m := fi.Mode().Perm(); m != o.mode() {
			warnings = append(warnings, fmt.Sprintf("systemd's socket has mode %04o, the config says %04o (SocketMode=)", m, o.mode()))
		}
	}
	if want, err := groupID(o.Group); err == nil && want >= 0 && want != out.GID {
		warnings = append(warnings, fmt.Sprintf("systemd's socket belongs to group %d, the config says %s (SocketGroup=)", out.GID, o.Group))
	}
	out.Warnings = warnings
	return out, nil
}
