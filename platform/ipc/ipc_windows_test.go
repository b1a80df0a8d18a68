package ipc

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"

	"renewd/platform/account"
)

// pipeName is one that nobody else has.
func pipeName(t *testing.T) string { return `\\.\pipe\renewd-test-` + t.Name() }

func listen(t *testing.T, o Options) *Listener {
	t.Helper()
	l, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// accept serves one client: it gives its peer and what it sent up to a newline.
func accept(l *Listener) <-chan result {
	out := make(chan result, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			out <- result{err: err}
			return
		}
		defer c.Close()
		var r result
		if r.peer, r.err = PeerOf(c); r.err == nil {
			r.line, r.err = bufio.NewReader(c).ReadString('\n')
			_, _ = io.WriteString(c, "bye\n")
		}
		out <- r
	}()
	return out
}

type result struct {
	peer Peer
	line string
	err  error
}

func say(t *testing.T, c net.Conn, line string) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := bufio.NewReader(c).ReadString('\n'); got != "bye\n" {
		t.Fatalf("the answer: %q, %v", got, err)
	}
}

func TestThePipeKnowsItsClient(t *testing.T) {
	l := listen(t, Options{Path: pipeName(t), Mode: 0o666})
	got := accept(l)
	c, err := Dial(t.Context(), pipeName(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	say(t, c, "hello")
	r := <-got
	me, err := Self()
	if err != nil || r.err != nil || r.line != "hello\n" {
		t.Fatalf("%+v, %v", r, err)
	}
	if !r.peer.HasSID(me.SID) || r.peer.PID != me.PID || len(r.peer.SIDs) == 0 || r.peer.IsUser(0) {
		t.Errorf("the client is %+v", r.peer)
	}
	if r.peer.HasSID(account.Service("other")) {
		t.Error("the client is somebody else too")
	}
}

// A client that lets nobody see who it is is nobody.
func TestAnAnonymousClientIsNobody(t *testing.T) {
	l := listen(t, Options{Path: pipeName(t), Mode: 0o666})
	got := accept(l)
	c, err := winio.DialPipeContext(t.Context(), pipeName(t)) // at anonymous level
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "hello\n")
	r := <-got
	_ = c.Close()
	me, _ := Self()
	if r.err == nil && r.peer.HasSID(me.SID) {
		underWine(t, "tells who an anonymous client is")
		t.Errorf("known as %+v", r.peer)
	}
}

func TestASecondAgentIsRefused(t *testing.T) {
	listen(t, Options{Path: pipeName(t)})
	if l, err := Listen(Options{Path: pipeName(t)}); !errors.Is(err, ErrInUse) {
		if err == nil {
			_ = l.Close()
		}
		t.Fatalf("a second one: %v", err)
	}
}

func TestAPipeCanBeMadeAgain(t *testing.T) {
	for range 5 {
		l, err := Listen(Options{Path: pipeName(t)})
		for end := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond) // its last handle closes a moment after Close
			l, err = Listen(Options{Path: pipeName(t)})
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhereNobodyListensThereIsNoAgent(t *testing.T) {
	_, err := Dial(t.Context(), pipeName(t))
	if !errors.Is(err, ErrNoAgent) {
		t.Fatalf("%v", err)
	}
	for _, path := range []string{`C:\file`, `\\server\pipe\renewd`, `/run/renewd.sock`} {
		if _, err := Dial(context.Background(), path); err == nil || !strings.Contains(err.Error(), "no pipe of this machine") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Who may do what is on the pipe as it was asked for; Windows enforces it.
func TestThePipesDescriptor(t *testing.T) {
	me, err := account.Own()
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t, Options{Path: pipeName(t), Mode: 0o666, Group: "S-1-5-32-545"})
	if l.SID != "S-1-5-32-545" {
		t.Errorf("the group is %q", l.SID)
	}
	got := accept(l)
	c, err := Dial(t.Context(), pipeName(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	h, err := handleOf(c)
	if err != nil {
		t.Fatal(err)
	}
	sd, err := windows.GetSecurityInfo(h, windows.SE_KERNEL_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		t.Fatal(err)
	}
	text := sd.String()
	// FA or its number; 0x12019b lets a client read and write and not serve.
	for _, want := range []string{";;;SY)", ";;;BA)", ";;;" + me + ")", "(A;;0x12019b;;;BU)", "(A;;0x12019b;;;AU)"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s lacks %s", text, want)
		}
	}
	if strings.Count(text, "(A;") != 5 || strings.Contains(text, "WD)") || strings.Contains(text, "AN)") {
		t.Errorf("lets in others: %s", text)
	}
	say(t, c, "x")
	<-got
}

func TestWhoseServerIsTrusted(t *testing.T) {
	const me, other = "S-1-5-21-1-2-3-1000", "S-1-5-21-1-2-3-1001"
	for owner, good := range map[string]bool{account.System: true, account.Administrators: true, account.Service("renewd"): true, me: true,
		other: false, account.Service("other"): false, "S-1-5-19": false, "S-1-5-20": false, account.Anonymous: false} {
		if err := trustOwner(owner, me); (err == nil) != good || err != nil && !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: %v", owner, err)
		}
	}
}

// underWine skips what Wine does otherwise than Windows.
func underWine(t *testing.T, what string) {
	t.Helper()
	if windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil {
		t.Skip("Wine " + what)
	}
}
