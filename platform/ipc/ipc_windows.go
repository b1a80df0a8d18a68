package ipc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

// Listen makes the named pipe: its first instance, so that nobody else can have
// made it, and for clients of this machine alone (go-winio asks for both).
func Listen(o Options) (*Listener, error) {
	sddl, err := descriptor(o)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", o.Path, err)
	}
	l, err := winio.ListenPipe(o.Path, &winio.PipeConfig{SecurityDescriptor: sddl, InputBufferSize: 4096, OutputBufferSize: 64 << 10})
	if errors.Is(err, os.ErrPermission) {
		err = fmt.Errorf("%w: %w", ErrInUse, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", o.Path, err)
	}
	return &Listener{Listener: l, GID: -1, close: func() error { return nil }}, nil
}

// descriptor lets in SYSTEM, administrators and the agent's account, the group,
// and every account of this machine where the mode has bits for others; the agent
// then judges each call by its caller.
func descriptor(o Options) (string, error) {
	me, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return "", fmt.Errorf("read the agent's account: %w", err)
	}
	sddl := "D:P(A;;GA;;;SY)(A;;GA;;;BA)(A;;GA;;;" + me.User.Sid.String() + ")"
	if o.Group != "" {
		sid, _, _, err := windows.LookupSID("", o.Group)
		if err != nil {
			return "", fmt.Errorf("find the group %q: %w", o.Group, err)
		}
		sddl += "(A;;GRGW;;;" + sid.String() + ")"
	}
	if o.mode()&0o006 != 0 {
		sddl += "(A;;GRGW;;;AU)"
	}
	return sddl, nil
}

// PeerOf names the account of the process that connected.
func PeerOf(c net.Conn) (Peer, error) {
	h, ok := c.(interface{ Fd() uintptr })
	if !ok {
		return Peer{}, fmt.Errorf("ask for the peer: %T is no pipe", c)
	}
	var pid uint32
	if err := windows.GetNamedPipeClientProcessId(windows.Handle(h.Fd()), &pid); err != nil {
		return Peer{}, fmt.Errorf("ask for the peer: %w", err)
	}
	p, err := account(pid)
	if err != nil {
		return Peer{}, fmt.Errorf("ask for the peer's account: %w", err)
	}
	return p, nil
}

func account(pid uint32) (Peer, error) {
	proc, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if err != nil {
		return Peer{}, err
	}
	defer windows.CloseHandle(proc)
	var token windows.Token
	if err := windows.OpenProcessToken(proc, windows.TOKEN_QUERY, &token); err != nil {
		return Peer{}, err
	}
	defer token.Close()
	u, err := token.GetTokenUser()
	if err != nil {
		return Peer{}, err
	}
	p := Peer{Known: true, SID: u.User.Sid.String(), PID: int(pid)}
	groups, err := token.GetTokenGroups()
	if err != nil {
		return Peer{}, err
	}
	for _, g := range groups.AllGroups() {
		if g.Attributes&windows.SE_GROUP_ENABLED != 0 { // not those that are for deny only
			p.SIDs = append(p.SIDs, g.Sid.String())
		}
	}
	return p, nil
}

// Dial connects to the agent's pipe at identification level, so that whoever
// serves it cannot act as the caller, and checks who serves it.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
	}
	c, err := winio.DialPipeAccessImpLevel(ctx, path, windows.GENERIC_READ|windows.GENERIC_WRITE, winio.PipeImpLevelIdentification)
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

// trustServer accepts SYSTEM, the service accounts and the caller.
func trustServer(c net.Conn) error {
	h, ok := c.(interface{ Fd() uintptr })
	if !ok {
		return fmt.Errorf("%T is no pipe: %w", c, ErrUntrusted)
	}
	sd, err := windows.GetSecurityInfo(windows.Handle(h.Fd()), windows.SE_KERNEL_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return err
	}
	owner, _, err := sd.Owner()
	if err != nil {
		return err
	}
	me, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return err
	}
	for _, kind := range []windows.WELL_KNOWN_SID_TYPE{windows.WinLocalSystemSid, windows.WinBuiltinAdministratorsSid,
		windows.WinLocalServiceSid, windows.WinNetworkServiceSid} {
		if owner.IsWellKnown(kind) {
			return nil
		}
	}
	if owner.Equals(me.User.Sid) {
		return nil
	}
	return fmt.Errorf("%s serves it: %w", owner, ErrUntrusted)
}
