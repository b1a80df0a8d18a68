package service

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// storedPrefix tells what this program stored from the sockets of .socket units.
	storedPrefix  = "renewd/"
	firstListenFD = 3 // SD_LISTEN_FDS_START
	longestFDName = 255
)

// stores says whether the manager keeps descriptors for the service's next
// process: systemd says how many from version 254 on, our units say it before.
func stores() bool {
	n, err := strconv.Atoi(os.Getenv("FDSTORE"))
	return err == nil && n > 0
}

// inherited takes what an earlier process of the service stored out of what
// systemd handed over (sd_listen_fds(3)). The sockets of .socket units, which come
// first, are left to whoever asks for them.
func inherited() map[string]*os.File {
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || err != nil || n != len(names) {
		return nil
	}
	out := map[string]*os.File{}
	for ; n > 0 && strings.HasPrefix(names[n-1], storedPrefix); n-- {
		fd, name := firstListenFD+n-1, names[n-1]
		syscall.CloseOnExec(fd)
		if out[name] != nil {
			_ = out[name].Close()
		}
		out[name] = os.NewFile(uintptr(fd), name)
	}
	_ = os.Setenv("LISTEN_FDS", strconv.Itoa(n))
	_ = os.Setenv("LISTEN_FDNAMES", strings.Join(names[:n], ":"))
	return out
}

// Store has the manager keep a listening socket, under a name of printable
// characters without colons, for the service's next process. Nothing else is
// stored: a connection would outlive the process that knows who it serves.
func (n *Notifier) Store(name string, f syscall.Conn) error {
	name = storedPrefix + name
	if len(name) > longestFDName {
		return fmt.Errorf("store %q: the name is too long", name)
	}
	c, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("store %q: %w", name, err)
	}
	cerr := c.Control(func(fd uintptr) {
		var listens int
		if listens, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens != 1 {
			err = errors.Join(errors.New("it is no listening socket"), err)
			return
		}
		// FDPOLL=0: it stays whatever poll(2) says of it.
		err = n.sendFDs("FDSTORE=1\nFDNAME="+name+"\nFDPOLL=0", int(fd))
	})
	if err = errors.Join(err, cerr); err != nil {
		return fmt.Errorf("store %q: %w", name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stored[name] = true
	return nil
}

// Stored gives what an earlier process stored under a name that begins with
// prefix, and the rest of that name; nil where there is none. The caller closes it.
func (n *Notifier) Stored(prefix string) (rest string, f *os.File) {
	if n == nil {
		return "", nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, f := range n.inherited {
		if rest, ok := strings.CutPrefix(name, storedPrefix+prefix); ok {
			delete(n.inherited, name)
			return rest, f
		}
	}
	return "", nil
}

// Unstore has the manager drop what is stored under a name.
func (n *Notifier) Unstore(name string) { n.unstore(storedPrefix + name) }

// UnstoreRest has the manager drop what an earlier process stored and this one did
// not ask for.
func (n *Notifier) UnstoreRest() {
	for {
		rest, f := n.Stored("")
		if f == nil {
			return
		}
		_ = f.Close()
		n.Unstore(rest)
	}
}

// UnstoreAll has the manager drop all that this process or an earlier one stored:
// where no agent comes up, clients are to be told so and not to wait.
func (n *Notifier) UnstoreAll() {
	n.UnstoreRest()
	if !n.Stores() {
		return
	}
	n.mu.Lock()
	names := slices.Collect(maps.Keys(n.stored))
	n.mu.Unlock()
	for _, name := range names {
		n.unstore(name)
	}
}

func (n *Notifier) unstore(name string) {
	n.mu.Lock()
	delete(n.stored, name)
	n.mu.Unlock()
	_ = n.sendFDs("FDSTOREREMOVE=1\nFDNAME=" + name)
}

// sendFDs writes one datagram with descriptors.
func (n *Notifier) sendFDs(state string, fds ...int) error {
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	var serr error
	err = rc.Write(func(fd uintptr) bool {
		serr = unix.Sendmsg(int(fd), []byte(state), rights, nil, unix.MSG_NOSIGNAL)
		return !errors.Is(serr, unix.EAGAIN)
	})
	return errors.Join(err, serr)
}
