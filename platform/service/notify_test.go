//go:build linux

package service

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// listen is a manager that reads what it is told.
func listen(t *testing.T) (read func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		t.Helper()
		b := make([]byte, 4096)
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := c.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return ""
		}
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

func TestNotifierSaysWhatTheManagerExpects(t *testing.T) {
	read := listen(t)
	t.Setenv("WATCHDOG_USEC", "3000000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	n := NewNotifier()
	want := func(text string) {
		t.Helper()
		if got := read(); got != text {
			t.Errorf("told %q, want %q", got, text)
		}
	}
	n.Ready("3 tokens")
	want("READY=1\nSTATUS=3 tokens")
	n.Status("3 tokens")
	want("") // nothing new
	n.Status("4\ntokens")
	want("STATUS=4 tokens")
	n.Reloading()
	if got := read(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") || len(got) < len("RELOADING=1\nMONOTONIC_USEC=")+6 {
		t.Errorf("told %q at a reload", got)
	}
	if d := n.AliveEvery(); d != 1500*time.Millisecond {
		t.Errorf("to be fed every %v, want half of 3 s", d)
	}
	n.Alive()
	want("WATCHDOG=1")
	n.Alive()
	want("") // just said
	n.Stopping("bye")
	want("STOPPING=1\nSTATUS=bye")
	n.Ready("late")
	n.Alive()
	want("") // a stop is not taken back
}

func TestNotifierIsSilentWhereNobodyListens(t *testing.T) {
	read := listen(t)
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "1000000")
	for _, n := range []*Notifier{NewNotifier(), nil} {
		n.Ready("x")
		n.Status("y")
		n.Alive()
		n.Reloading()
		n.Stopping("z")
		if n.On() || n.AliveEvery() != 0 {
			t.Error("it says that somebody listens")
		}
	}
	if got := read(); got != "" {
		t.Errorf("told %q", got)
	}
}

// The watchdog of another process, inherited, is not ours to feed.
func TestNotifierLeavesAnotherProcessesWatchdog(t *testing.T) {
	read := listen(t)
	t.Setenv("WATCHDOG_USEC", "3000000")
	t.Setenv("WATCHDOG_PID", "1")
	n := NewNotifier()
	n.Alive()
	if got := read(); got != "" || n.AliveEvery() != 0 {
		t.Errorf("told %q, every %v", got, n.AliveEvery())
	}
}

// A manager that does not read costs a moment, never the loop.
func TestNotifierWaitsForNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	n := NewNotifier()
	began := time.Now()
	for i := range 40 { // more than the socket queues
		n.Status(strconv.Itoa(i))
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("40 lines took %v", d)
	}
}
