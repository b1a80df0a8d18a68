package ipc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"

	"renewd/platform/account"
)

// dialRights are what a client needs: all of FILE_GENERIC_READ and
// FILE_GENERIC_WRITE but FILE_CREATE_PIPE_INSTANCE, which has the number of
// FILE_APPEND_DATA. Whoever has that may serve the pipe beside the agent.
const dialRights = (windows.FILE_GENERIC_READ | windows.FILE_GENERIC_WRITE) &^ windows.FILE_APPEND_DATA

// Listen makes the named pipe: its first instance, so that nobody else can have
// made it, and for clients of this machine alone (go-winio asks for both).
func Listen(o Options) (*Listener, error) {
	sddl, group, err := descriptor(o)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", o.Path, err)
	}
	inner, err := winio.ListenPipe(o.Path, &winio.PipeConfig{SecurityDescriptor: sddl, InputBufferSize: 4096, OutputBufferSize: 64 << 10})
	if errors.Is(err, os.ErrPermission) {
		err = fmt.Errorf("%w: %w", ErrInUse, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", o.Path, err)
	}
	l := newPipe(inner)
	if err := l.rouse(o.Path); err != nil {
		_ = inner.Close()
		return nil, fmt.Errorf("listen on %q: %w", o.Path, err)
	}
	return &Listener{Listener: l, GID: -1, SID: group, close: func() error { return nil }}, nil
}

// descriptor lets in SYSTEM, administrators and the agent's account, the group,
// and every account of this machine where the mode has bits for others; the agent
// then judges each call by its caller.
func descriptor(o Options) (sddl, group string, err error) {
	me, err := account.Own()
	if err != nil {
		return "", "", err
	}
	owner, err := account.Owner()
	if err != nil {
		return "", "", err
	}
	// Named, since clients judge by it: the default may be a group.
	sddl = "O:" + owner + "D:P(A;;GA;;;SY)(A;;GA;;;BA)(A;;GA;;;" + me + ")"
	if o.Group != "" {
		if group, err = account.SID(o.Group); err != nil {
			return "", "", err
		}
		sddl += fmt.Sprintf("(A;;%#x;;;%s)", dialRights, group)
	}
	if o.mode()&0o006 != 0 {
		sddl += fmt.Sprintf("(A;;%#x;;;AU)", dialRights)
	}
	return sddl, group, nil
}

// Dial connects to the agent's pipe at identification level, so that whoever
// serves it cannot act as the caller, and checks who serves it.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	if !strings.HasPrefix(path, `\\.\pipe\`) {
		return nil, fmt.Errorf(`dial %q: it is no pipe of this machine (\\.\pipe\NAME)`, path)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
	}
	c, err := winio.DialPipeAccessImpLevel(ctx, path, dialRights, winio.PipeImpLevelIdentification)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("dial %q: %w: %w", path, ErrNoAgent, err)
	}
	if err != nil {
		return nil, fmt.Errorf("dial %q: %w", path, err)
	}
	if err := trustServer(c); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("dial %q: %w", path, err)
	}
	return c, nil
}

// trustServer accepts a pipe of SYSTEM, administrators, the service's account and
// the caller.
func trustServer(c net.Conn) error {
	h, err := handleOf(c)
	if err != nil {
		return err
	}
	sd, err := windows.GetSecurityInfo(h, windows.SE_KERNEL_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("ask whose pipe it is: %w", err)
	}
	owner, _, err := sd.Owner()
	if err != nil {
		return fmt.Errorf("ask whose pipe it is: %w", err)
	}
	me, err := account.Own()
	if err != nil {
		return err
	}
	return trustOwner(owner.String(), me)
}

func trustOwner(owner, me string) error {
	switch owner {
	case account.System, account.Administrators, account.Service("renewd"), me:
		return nil
	}
	return fmt.Errorf("%s serves it: %w", owner, ErrUntrusted)
}

func handleOf(c net.Conn) (windows.Handle, error) {
	h, ok := c.(interface{ Fd() uintptr })
	if !ok {
		return 0, fmt.Errorf("%T is no pipe", c)
	}
	return windows.Handle(h.Fd()), nil
}

// Self is this process as a Peer.
func Self() (Peer, error) {
	sid, err := account.Own()
	return Peer{Known: err == nil, SID: sid, PID: os.Getpid()}, err
}
