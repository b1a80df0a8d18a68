// Package ipc is the machine-local connection between renewd and its clients: a
// Unix socket, a named pipe on Windows. It answers for who may dial, who is at the
// other end, and that a client talks to an agent it can trust.
package ipc

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"strconv"
)

// Options say where to listen and who may dial.
type Options struct {
	Path  string      // of the socket, or name of the pipe
	Mode  fs.FileMode // permission bits; 0: 0600. Windows: whether others may dial at all
	Group string      // name or number; empty: as the directory or the process has it

	// Kept is the socket as an earlier process of the service left it, which is
	// taken if it stands at Path as this one would make it, and KeptID the ID that
	// it had. Listen closes neither. Nil: there is none.
	Kept   *os.File
	KeptID string
}

func (o Options) mode() fs.FileMode {
	if m := o.Mode.Perm(); m != 0 {
		return m
	}
	return 0o600
}

// Listener accepts clients. Close takes the socket away if it is this Listener's
// own and is not to stay.
type Listener struct {
	net.Listener

	// Activated says that systemd made the socket (sd_listen_fds(3)).
	Activated bool
	// Warnings say how an activated socket differs from what was asked for.
	Warnings []string
	// GID is the group of the socket's inode; -1 where it has none.
	GID int
	// SID is the group's on Windows; "" where there is none.
	SID string
	// ID tells the socket in the file system from any other that is or was at its
	// path; "" where this Listener did not make it.
	ID string
	// Resumed says that it is the one that was kept.
	Resumed bool

	stays bool
	close func() error
}

// Stay has Close leave the socket where it is, for who else listens on it.
func (l *Listener) Stay() { l.stays = true }

// Close stops listening.
func (l *Listener) Close() error { return errors.Join(l.Listener.Close(), l.close()) }

var (
	// ErrInUse means that a live agent serves the socket.
	ErrInUse = errors.New("another agent serves it")
	// ErrNoAgent means that nothing answers at the socket.
	ErrNoAgent = errors.New("no agent answers")
	// ErrUntrusted means that the socket or who listens on it belongs to someone
	// who is neither root nor renewd nor the caller.
	ErrUntrusted = errors.New("the socket is not to be trusted")
)

// Peer is who is at the other end of a connection, as the kernel tells it. The
// zero Peer is nobody: it matches no user and no group.
type Peer struct {
	Known bool
	UID   uint32
	GIDs  []uint32 // primary and supplementary
	PID   int      // 0 where the system does not tell
	SID   string   // Windows: the account, instead of UID
	SIDs  []string // Windows: its groups
}

// nobody is what the kernel reports for an account that has no number in this
// user namespace: many different accounts, so it must never be compared.
const nobody = 65534

// IsUser reports whether the peer is the user with this number.
func (p Peer) IsUser(uid uint32) bool { return p.Known && p.SID == "" && p.UID == uid && uid != nobody }

// InGroup reports whether the peer is a member of the group with this number.
func (p Peer) InGroup(gid uint32) bool {
	if !p.Known || p.UID == nobody || gid == nobody {
		return false
	}
	for _, g := range p.GIDs {
		if g == gid {
			return true
		}
	}
	return false
}

// HasSID reports whether sid names the peer's account or one of its groups.
func (p Peer) HasSID(sid string) bool {
	if !p.Known || sid == "" {
		return false
	}
	for _, s := range p.SIDs {
		if s == sid {
			return true
		}
	}
	return p.SID == sid
}

// String names the peer for logs and budgets: "uid 1000".
func (p Peer) String() string {
	switch {
	case !p.Known:
		return "unknown"
	case p.SID != "":
		return p.SID
	}
	return "uid " + strconv.FormatUint(uint64(p.UID), 10)
}
