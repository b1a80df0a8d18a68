package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// manager does for an agent what systemd does for a service: it keeps the sockets
// that it is given and hands them to the next process.
type manager struct {
	r    *rig
	conn *net.UnixConn

	mu   sync.Mutex
	held map[string]*os.File
	said string // all that it was told
}

func newManager(r *rig) *manager {
	r.t.Helper()
	at := &net.UnixAddr{Name: r.path("notify"), Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", at)
	if err != nil {
		r.t.Fatal(err)
	}
	m := &manager{r: r, conn: conn, held: map[string]*os.File{}}
	ended := make(chan struct{})
	go func() { defer close(ended); m.listen() }()
	r.t.Cleanup(func() {
		_ = conn.Close()
		<-ended
		m.drop()
	})
	r.env = append(r.env, "NOTIFY_SOCKET="+at.Name, "FDSTORE=4", "RENEWD_RESTART=always")
	return m
}

func (m *manager) listen() {
	b, oob := make([]byte, 4096), make([]byte, 256)
	for {
		n, k, _, _, err := m.conn.ReadMsgUnix(b, oob)
		if err != nil {
			return
		}
		m.mu.Lock()
		m.said += string(b[:n]) + "\n"
		_, name, _ := strings.Cut(string(b[:n]), "FDNAME=")
		name, _, _ = strings.Cut(name, "\n")
		messages, _ := syscall.ParseSocketControlMessage(oob[:k])
		for _, msg := range messages {
			fds, _ := syscall.ParseUnixRights(&msg)
			for _, fd := range fds {
				m.held[name] = os.NewFile(uintptr(fd), name)
			}
		}
		if f := m.held[name]; f != nil && strings.HasPrefix(string(b[:n]), "FDSTOREREMOVE=1\n") {
			_ = f.Close()
			delete(m.held, name)
		}
		m.mu.Unlock()
	}
}

// names are of what is kept.
func (m *manager) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return sortedKeys(m.held)
}

func (m *manager) wasTold(text string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Contains(m.said, text)
}

// drop is what systemd does with the store when the service is fully stopped.
func (m *manager) drop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.held {
		_ = f.Close()
	}
	clear(m.held)
}

// start runs the agent with what is kept for it.
func (m *manager) start() {
	r := m.r
	r.t.Helper()
	r.proc = exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" run --config "$1"`, theBinary(r.t), r.path("renewd.yaml"))
	r.proc.Env = r.env
	r.proc.Stderr = r.log
	m.mu.Lock()
	names := sortedKeys(m.held)
	for _, n := range names {
		r.proc.ExtraFiles = append(r.proc.ExtraFiles, m.held[n])
	}
	if len(names) > 0 {
		r.proc.Env = append(slices.Clone(r.env), fmt.Sprint("LISTEN_FDS=", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	m.said = ""
	err := r.proc.Start()
	m.mu.Unlock()
	if err != nil {
		r.t.Fatal(err)
	}
	exited := make(chan error, 1)
	r.exited = exited
	go func(p *exec.Cmd) { exited <- p.Wait() }(r.proc)
}

// ready waits for the end of the start.
func (m *manager) ready() {
	m.r.t.Helper()
	eventually(m.r.t, "READY=1", 20*time.Second, func() bool { return m.wasTold("READY=1") })
}

// callers call the agent all the time, each call on a connection of its own.
type callers struct {
	calls   int
	longest time.Duration
	failed  []string
}

func callForEver(socket string, paths ...string) (count func() int, stop func() callers) {
	var mu sync.Mutex
	var c callers
	var all sync.WaitGroup
	end := make(chan struct{})
	for _, path := range paths {
		all.Go(func() {
			client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return (&net.Dialer{}).DialContext(ctx, "unix", socket)
				}}}
			for {
				select {
				case <-end:
					return
				default:
				}
				said, began := "", time.Now()
				resp, err := client.Get("http://renewd" + path)
				if err != nil {
					said = err.Error()
				} else {
					if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
						said = fmt.Sprint(resp.Status, err)
					}
					_ = resp.Body.Close()
				}
				mu.Lock()
				c.calls++
				c.longest = max(c.longest, time.Since(began))
				if said != "" {
					c.failed = append(c.failed, said)
				}
				mu.Unlock()
			}
		})
	}
	count = func() int {
		mu.Lock()
		defer mu.Unlock()
		return c.calls
	}
	return count, func() callers {
		close(end)
		all.Wait()
		return c
	}
}

const fileToken = "tokens:\n  f:\n    source: {type: file, path: f.token, format: raw, lifetime: {default: 1h}}\n"

// Over restarts, orderly ones and kills, clients of a service wait and are not
// refused, on the socket and on TCP. Once the service is stopped they are told so.
func TestE2ENobodyIsRefusedOverARestart(t *testing.T) {
	metrics := "127.0.0.1:" + freePort(t)
	r := newRig(t, "metrics: {listen: "+metrics+"}\n"+fileToken)
	r.write("f.token", "abc")
	m := newManager(r)
	m.start()
	m.ready()
	if names := m.names(); len(names) != 2 || !strings.HasPrefix(names[0], "renewd/api/") || names[1] != "renewd/metrics/"+strings.ReplaceAll(metrics, ":", "=") {
		t.Fatalf("kept: %q", names)
	}
	kept := m.names()
	over := func(times int, end func()) callers {
		if out, errs, _ := r.cli("get", "f"); out != "abc\n" {
			t.Fatalf("get says %q %s", out, errs)
		}
		count, stop := callForEver(r.socket(), "/v1/tokens/f", "/v1/tokens/f?format=raw", "/v1/tokens")
		for range times {
			n := count()
			eventually(t, "calls", 20*time.Second, func() bool { return count() > n+100 })
			end()
			c, err := net.Dial("tcp", metrics)
			if err != nil {
				t.Fatalf("TCP refuses between two processes: %v", err)
			}
			_, _ = io.WriteString(c, "GET /healthz HTTP/1.0\r\n\r\n")
			m.start()
			m.ready()
			answer, _ := io.ReadAll(c)
			_ = c.Close()
			if !strings.HasPrefix(string(answer), "HTTP/1.0 200") {
				t.Errorf("TCP answers %q after the restart", answer)
			}
		}
		return stop()
	}
	c := over(10, r.stop)
	t.Logf("%d calls over 10 restarts, the longest %v, %d failed", c.calls, c.longest.Round(time.Millisecond), len(c.failed))
	if len(c.failed) > 0 {
		t.Errorf("failed: %q", c.failed)
	}
	// What a killed process was answering is lost, and nothing else.
	c = over(5, r.kill)
	t.Logf("%d calls over 5 kills, the longest %v, %d failed", c.calls, c.longest.Round(time.Millisecond), len(c.failed))
	for _, f := range c.failed {
		if strings.Contains(f, "dial") {
			t.Errorf("over a kill: %s", f)
		}
	}
	if now := m.names(); !slices.Equal(now, kept) {
		t.Errorf("kept now %q, before %q", now, kept)
	}

	r.stop()
	m.drop()
	if _, errs, code := r.cli("get", "f"); code != exitNoAgent {
		t.Errorf("get of a stopped service ends with %d: %s", code, errs)
	}
	m.start()
	m.ready()
	if out, errs, code := r.cli("get", "f"); out != "abc\n" {
		t.Errorf("after the next start: %d %s%s", code, out, errs)
	}
}

// Where the start fails, clients are told that no agent answers; what the config
// does not want any more is dropped.
func TestE2EKeptSocketsAreDropped(t *testing.T) {
	metrics := "127.0.0.1:" + freePort(t)
	r := newRig(t, "metrics: {listen: "+metrics+"}\n"+fileToken)
	r.write("f.token", "abc")
	m := newManager(r)
	m.start()
	m.ready()
	r.stop()
	r.write("renewd.yaml", "socket: {mode: \"0600\"}\n"+fileToken)
	m.start()
	m.ready()
	eventually(t, "the other mode's socket kept alone", 10*time.Second, func() bool { return len(m.names()) == 1 })
	if _, err := net.Dial("tcp", metrics); err == nil {
		t.Error("metrics are still listened for")
	}
	if out, _, _ := r.cli("get", "f"); out != "abc\n" {
		t.Errorf("get says %q", out)
	}

	r.stop()
	r.write("renewd.yaml", "tokens: [")
	m.start()
	eventually(t, "no agent answering", 10*time.Second, func() bool { _, _, code := r.cli("get", "f"); return code == exitNoAgent })
	if names := m.names(); len(names) > 0 {
		t.Errorf("kept: %q", names)
	}
	r.stop()
}
