package ipc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"time"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

const (
	mute     = 5 * time.Second // how long a client may say nothing where its account is known only then
	mutes    = 64              // such clients at once; more are nobody
	rousedBy = 15 * time.Second
)

// pipe accepts clients whose account can be asked for.
type pipe struct {
	net.Listener
	impersonate *windows.LazyProc
	mute        chan struct{}
}

func newPipe(l net.Listener) *pipe {
	return &pipe{Listener: l, mute: make(chan struct{}, mutes),
		impersonate: windows.NewLazySystemDLL("advapi32.dll").NewProc("ImpersonateNamedPipeClient")}
}

// rouse has a first client come and go: it shows that the pipe can be dialled,
// and the first instance, which go-winio holds and never serves, takes a client
// under Wine and leaves it hanging.
func (l *pipe) rouse(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), rousedBy)
	defer cancel()
	accepted := make(chan error, 1)
	go func() {
		c, err := l.Listener.Accept()
		if err == nil {
			err = c.Close()
		}
		accepted <- err
	}()
	for {
		once, done := context.WithTimeout(ctx, time.Second) // one that hangs is given up for another
		c, err := winio.DialPipeAccessImpLevel(once, path, dialRights, winio.PipeImpLevelIdentification)
		done()
		switch {
		case err == nil:
			_ = c.Close()
		case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		default:
			return fmt.Errorf("dial the own pipe: %w", err)
		}
		select {
		case err := <-accepted:
			return err
		case <-time.After(20 * time.Millisecond): // somebody else took it
		case <-ctx.Done():
			return fmt.Errorf("dial the own pipe: %w", ctx.Err())
		}
	}
}

func (l *pipe) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &pipeConn{Conn: c, pipe: l}, nil
}

// pipeConn is a client's connection. A byte that was read to learn who it is
// comes first.
type pipeConn struct {
	net.Conn
	pipe *pipe
	head []byte
}

// Fd is of the pipe's own handle.
func (c *pipeConn) Fd() uintptr {
	h, _ := handleOf(c.Conn)
	return uintptr(h)
}

func (c *pipeConn) Read(b []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(b, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// PeerOf asks Windows for the client's account by impersonating it: the account
// that opened the pipe, whatever has become of its process since. Call it before
// the first Read. A client that does not let itself be identified is an error.
func PeerOf(c net.Conn) (Peer, error) {
	pc, ok := c.(*pipeConn)
	if !ok {
		return Peer{}, fmt.Errorf("ask for the peer: %T is no pipe", c)
	}
	p, err := pc.peer()
	if errors.Is(err, windows.ERROR_CANNOT_IMPERSONATE) {
		// Opened without SECURITY_SQOS_PRESENT: Windows takes the account with the
		// first bytes and tells it once those are read.
		if err = pc.readOne(); err == nil {
			p, err = pc.peer()
		}
	}
	if err != nil {
		return Peer{}, fmt.Errorf("ask for the peer: %w", err)
	}
	return p, nil
}

func (c *pipeConn) readOne() error {
	select {
	case c.pipe.mute <- struct{}{}:
		defer func() { <-c.pipe.mute }()
	default:
		return errors.New("too many clients that say nothing")
	}
	if err := c.Conn.SetReadDeadline(time.Now().Add(mute)); err != nil {
		return err
	}
	one := make([]byte, 1)
	if _, err := io.ReadFull(c.Conn, one); err != nil {
		return err
	}
	c.head = one
	return c.Conn.SetReadDeadline(time.Time{})
}

// peer impersonates on a thread that nothing else runs on, and which ends where
// it cannot become itself again.
func (c *pipeConn) peer() (p Peer, err error) {
	h, err := handleOf(c.Conn)
	if err != nil {
		return Peer{}, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if ok, _, e := c.pipe.impersonate.Call(uintptr(h)); ok == 0 {
			runtime.UnlockOSThread()
			err = e
			return
		}
		p, err = threadPeer()
		if rerr := windows.RevertToSelf(); rerr != nil {
			err = errors.Join(err, rerr)
			return // the thread ends with this goroutine
		}
		runtime.UnlockOSThread()
	}()
	<-done
	if err == nil {
		var pid uint32
		if windows.GetNamedPipeClientProcessId(h, &pid) == nil {
			p.PID = int(pid) // for people to read
		}
	}
	return p, err
}

// threadPeer reads the account that the thread acts as, by the right of the
// process.
func threadPeer() (Peer, error) {
	var token windows.Token
	if err := windows.OpenThreadToken(windows.CurrentThread(), windows.TOKEN_QUERY, true, &token); err != nil {
		return Peer{}, err
	}
	defer token.Close()
	u, err := token.GetTokenUser()
	if err != nil {
		return Peer{}, err
	}
	p := Peer{Known: true, SID: u.User.Sid.String()}
	groups, err := token.GetTokenGroups()
	if err != nil {
		return Peer{}, err
	}
	for _, g := range groups.AllGroups() {
		if g.Attributes&windows.SE_GROUP_ENABLED != 0 && g.Attributes&windows.SE_GROUP_USE_FOR_DENY_ONLY == 0 {
			p.SIDs = append(p.SIDs, g.Sid.String())
		}
	}
	return p, nil
}
