package ipc

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"renewd/platform/account"
)

// ListenUnknown opens a Unix socket, which Windows has since 10 1803 and which tells
// nothing of its clients. The directory's access list, which the socket inherits,
// says who they may be: it must name SYSTEM, administrators and this process's
// account alone. A dead socket is replaced.
func ListenUnknown(path string) (*Listener, error) {
	err := account.VerifyPrivate(filepath.Dir(path))
	if err == nil {
		err = removeDead(path)
	}
	var l *net.UnixListener
	if err == nil {
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", path, err)
	}
	return &Listener{Listener: l, GID: -1, close: func() error { return nil }}, nil // Go's listener removes the socket
}

// removeDead removes a socket that nobody serves, and nothing else.
func removeDead(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && fi.Mode().Type() != fs.ModeSocket {
		err = errors.New("there is something that is not a socket; renewd does not replace it")
	}
	if err != nil {
		return err
	}
	if c, err := net.DialTimeout("unix", path, 2*time.Second); err == nil {
		_ = c.Close()
		return ErrInUse
	}
	return os.Remove(path)
}
