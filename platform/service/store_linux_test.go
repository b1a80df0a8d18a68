package service

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// keeper is a manager that keeps what it is given, by name.
type keeper struct {
	t    *testing.T
	c    *net.UnixConn
	held map[string]*os.File
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{t, c, map[string]*os.File{}}
	t.Cleanup(func() {
		c.Close()
		for _, f := range k.held {
			f.Close()
		}
	})
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("FDSTORE", "4")
	return k
}

// read takes what waits; "" where nothing does.
func (k *keeper) read() string {
	k.t.Helper()
	b, oob := make([]byte, 4096), make([]byte, 256)
	_ = k.c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	n, m, _, _, err := k.c.ReadMsgUnix(b, oob)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ""
	}
	if err != nil {
		k.t.Fatal(err)
	}
	text := string(b[:n])
	_, name, _ := strings.Cut(text, "FDNAME=")
	name, _, _ = strings.Cut(name, "\n")
	messages, _ := syscall.ParseSocketControlMessage(oob[:m])
	for _, msg := range messages {
		fds, _ := syscall.ParseUnixRights(&msg)
		for _, fd := range fds {
			k.held[name] = os.NewFile(uintptr(fd), name)
		}
	}
	if strings.HasPrefix(text, "FDSTOREREMOVE=1\n") && k.held[name] != nil {
		k.held[name].Close()
		delete(k.held, name)
	}
	return text
}

func listenAt(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	t.Cleanup(func() { l.Close() })
	return l
}

// A client that connects after the process has closed its socket waits in what the
// manager keeps; once that is dropped it is refused.
func TestWhatIsStoredOutlivesTheProcess(t *testing.T) {
	k := newKeeper(t)
	n := NewNotifier()
	path := filepath.Join(t.TempDir(), "s")
	l := listenAt(t, path)
	if err := n.Store("api/1-2", l); err != nil || !n.Stores() {
		t.Fatal(err, n.Stores())
	}
	if got := k.read(); got != "FDSTORE=1\nFDNAME=renewd/api/1-2\nFDPOLL=0" || len(k.held) != 1 {
		t.Fatalf("told %q with %d descriptors", got, len(k.held))
	}
	l.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("a client is refused: %v", err)
	}
	c.Close()
	n.UnstoreAll()
	if got := k.read(); got != "FDSTOREREMOVE=1\nFDNAME=renewd/api/1-2" {
		t.Errorf("told %q", got)
	}
	if _, err := net.Dial("unix", path); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after that a client gets: %v", err)
	}
	if n.UnstoreAll(); k.read() != "" {
		t.Error("told twice")
	}
}

// Connections and files stay with the process, and names that systemd refuses are
// not sent.
func TestOnlyListeningSocketsAreStored(t *testing.T) {
	k := newKeeper(t)
	n := NewNotifier()
	path := filepath.Join(t.TempDir(), "s")
	l := listenAt(t, path)
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accepted, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for what, c := range map[string]syscall.Conn{"an accepted connection": accepted, "a client's end": client.(*net.UnixConn), "a file": file} {
		if n.Store("x", c) == nil {
			t.Errorf("%s was stored", what)
		}
	}
	if n.Store(strings.Repeat("x", longestFDName), l) == nil {
		t.Error("too long a name was taken")
	}
	if got := k.read(); got != "" || len(k.held) != 0 {
		t.Errorf("told %q, %d descriptors", got, len(k.held))
	}
}

// The next process gets what is its own, and leaves to activation what is a
// socket unit's.
func TestStoredSocketsAreTakenBack(t *testing.T) {
	if os.Getenv("RENEWD_TEST_STORED") != "" {
		takesBack()
		os.Exit(0)
	}
	k := newKeeper(t)
	path := filepath.Join(t.TempDir(), "s")
	f, err := listenAt(t, path).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestStoredSocketsAreTakenBack$")
	cmd.Env = append(os.Environ(), "RENEWD_TEST_STORED=1", "LISTEN_FDS=3", "LISTEN_FDNAMES=renewd.socket:renewd/api/1-2:renewd/gone/x")
	cmd.ExtraFiles = []*os.File{f, f, f}
	cmd.Stderr = os.Stderr
	go func() {
		if c, err := net.Dial("unix", path); err == nil {
			fmt.Fprintln(c, "hello")
			c.Close()
		}
	}()
	out, err := cmd.Output()
	if want := "no mine\napi 1-2\nhello\nleft 1 renewd.socket\n"; err != nil || string(out) != want {
		t.Errorf("%v:\n%swant:\n%s", err, out, want)
	}
	if got := k.read(); got != "FDSTOREREMOVE=1\nFDNAME=renewd/gone/x" {
		t.Errorf("told %q of what nobody asked for", got)
	}
	if got := k.read(); got != "" {
		t.Errorf("told %q", got)
	}
}

// takesBack is the next process.
func takesBack() {
	_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid())) // as systemd does it, after fork
	n := NewNotifier()
	if _, f := n.Stored("mine/"); f == nil {
		fmt.Println("no mine")
	}
	id, f := n.Stored("api/")
	fmt.Println("api", id)
	l, err := net.FileListener(f)
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := l.Accept()
	if err != nil {
		fmt.Println(err)
		return
	}
	line, _ := bufio.NewReader(c).ReadString('\n')
	fmt.Print(line)
	n.UnstoreRest()
	fmt.Println("left", os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES"))
}

// What another process of the session was given is not ours.
func TestSocketsOfAnotherProcessAreLeft(t *testing.T) {
	newKeeper(t)
	t.Setenv("LISTEN_PID", "1")
	t.Setenv("LISTEN_FDS", "1")
	t.Setenv("LISTEN_FDNAMES", "renewd/api/1-2")
	if _, f := NewNotifier().Stored("api/"); f != nil {
		t.Error("taken")
	}
	if os.Getenv("LISTEN_FDS") != "1" {
		t.Error("the environment was changed")
	}
}
