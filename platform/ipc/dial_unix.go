//go:build unix

package ipc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dial connects to the agent at path, if its directory and its listener belong to
// root, to the account "renewd" or to the caller.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	fi, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return nil, dialError(path, err)
	}
	if uid := fi.Sys().(*syscall.Stat_t).Uid; !ours(uid) {
		return nil, fmt.Errorf("dial %q: its directory belongs to uid %d: %w", path, uid, ErrUntrusted)
	}
	c, err := dialPatiently(ctx, path)
	if err != nil {
		return nil, dialError(path, err)
	}
	// The credentials are those of who called listen(2): systemd's where it made
	// the socket (unix(7), SO_PEERCRED).
	p, err := PeerOf(c)
	if err == nil && !ours(p.UID) {
		err = fmt.Errorf("uid %d listens there: %w", p.UID, ErrUntrusted)
	}
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("dial %q: %w", path, err)
	}
	return c, nil
}

// dialPatiently tries again while the listener's backlog is full (EAGAIN of
// connect(2)): someone floods it, and the agent works that off.
func dialPatiently(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	for tries := 0; ; tries++ {
		c, err := d.DialContext(ctx, "unix", path)
		if !errors.Is(err, unix.EAGAIN) || tries == 200 {
			return c, err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func dialError(path string, err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("dial %q: %w: %w", path, ErrNoAgent, err)
	}
	return fmt.Errorf("dial %q: %w", path, err)
}

func ours(uid uint32) bool {
	if uid == 0 || uid == uint32(os.Geteuid()) {
		return true
	}
	u, err := user.Lookup("renewd")
	return err == nil && u.Uid == strconv.FormatUint(uint64(uid), 10)
}

// rawPeer runs f on the descriptor of a Unix connection.
func rawPeer(c net.Conn, f func(fd int) (Peer, error)) (p Peer, err error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return Peer{}, fmt.Errorf("ask for the peer: %T is no Unix connection", c)
	}
	rc, err := u.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("ask for the peer: %w", err)
	}
	cerr := rc.Control(func(fd uintptr) { p, err = f(int(fd)) })
	if err = errors.Join(err, cerr); err != nil {
		return Peer{}, fmt.Errorf("ask for the peer: %w", err)
	}
	return p, nil
}

// Self is this process as a Peer, without its groups.
func Self() (Peer, error) {
	return Peer{Known: true, UID: uint32(os.Geteuid()), PID: os.Getpid()}, nil
}
