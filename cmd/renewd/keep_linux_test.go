package main

import (
	"context"
	"errors"
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

	"renewd/agent/source/standin"
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

// ends waits until the agent has ended by itself.
func (m *manager) ends() {
	m.r.t.Helper()
	select {
	case err := <-m.r.exited:
		if err != nil {
			m.r.t.Errorf("the agent ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		m.r.t.Fatal("the agent does not end")
	}
}

// again starts the agent, once it has ended by itself, as a manager does.
func (m *manager) again() {
	m.r.t.Helper()
	m.ends()
	m.start()
	m.ready()
}

// stays reports whether the process is still the one that was started.
func (m *manager) stays() {
	m.r.t.Helper()
	select {
	case err := <-m.r.exited:
		m.r.t.Fatalf("the agent has ended: %v", err)
	default:
	}
}

// A reload that needs what the process gave up has it end, and the next one runs
// the config: nobody is refused meanwhile, nothing is logged in, and what left the
// config goes.
func TestE2EAReloadStartsAgain(t *testing.T) {
	hasLandlock(t)
	r, api, _ := commanderRig(t, standin.CommanderOptions{})
	beyond := t.TempDir()
	config := strings.Replace(readFile(t, r.path("renewd.yaml")), "{type: file, format: json}", "{type: file, path: stops, on_stop: remove}", 1)
	left := "  g:\n    source: {type: file, path: f.token, format: raw, lifetime: {default: 1h}}\n    sinks: [{type: file}]\n"
	r.write("f.token", "abc")
	r.write("renewd.yaml", config+left)
	m := newManager(r)
	m.start()
	m.ready()
	for _, name := range []string{"c", "stops", "g"} {
		r.waitFile(name)
	}
	logins, generation := api.Counts().Logins, r.generationOf("c")
	_, stop := callForEver(r.socket(), "/v1/tokens/c", "/v1/tokens/c?format=raw")

	wide := strings.Replace(config, "    allow:", "      - {type: file, path: "+beyond+"/token}\n    allow:", 1)
	r.write("renewd.yaml", wide)
	said := make(chan string, 1)
	go func() {
		out, errs, code := r.cli("reload")
		said <- fmt.Sprint(out, errs, code)
	}()
	m.ends()
	if !r.here(r.token("stops")) {
		t.Error("a file that goes at a stop went, though the agent goes on")
	}
	if r.here(r.token("g")) {
		t.Error("the file of a token that left the config is there")
	}
	m.start()
	m.ready()
	if got := <-said; got != "config reloaded, and the agent started again for what it had given up\n0" {
		t.Errorf("reload says %q", got)
	}
	c := stop()
	t.Logf("%d calls, the longest %v, %d failed", c.calls, c.longest.Round(time.Millisecond), len(c.failed))
	if len(c.failed) > 0 {
		t.Errorf("failed: %q", c.failed)
	}
	eventually(t, "the token at the new place", 10*time.Second, func() bool { b, err := os.ReadFile(beyond + "/token"); return err == nil && len(b) > 0 })
	if now := r.generationOf("c"); now < generation || api.Counts().Logins != logins {
		t.Errorf("generation %d after %d, %d logins after %d", now, generation, api.Counts().Logins, logins)
	}
	if log := r.log.String(); strings.Count(log, "starting again with the new config") == 0 || strings.Contains(log, msgRefused) {
		t.Error("the log does not say it, or says that the config was refused")
	}

	// For the same config it never ends again.
	for range 3 {
		if out, errs, _ := r.cli("reload"); out != "config reloaded\n" {
			t.Errorf("the same config: %s%s", out, errs)
		}
	}
	m.stays()

	// A directory in use that was replaced is out of reach too.
	if err := errors.Join(os.Rename(beyond, beyond+".old"), os.Mkdir(beyond, 0o755)); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(beyond + ".old")
	go func() {
		out, errs, code := r.cli("reload")
		said <- fmt.Sprint(out, errs, code)
	}()
	m.again()
	if got := <-said; !strings.Contains(got, "started again") {
		t.Errorf("reload says %q", got)
	}
	eventually(t, "the token at the replaced place", 10*time.Second, func() bool { b, err := os.ReadFile(beyond + "/token"); return err == nil && len(b) > 0 })
	r.stop()
}

// What is to start an agent again is good, and leaves it where it is; all else is
// refused by the one that runs.
func TestE2EABadReloadDoesNotStartAgain(t *testing.T) {
	hasLandlock(t)
	beyond := t.TempDir()
	r := newRig(t, fileToken)
	r.write("f.token", "abc")
	m := newManager(r)
	m.start()
	m.ready()
	place := "    sinks: [{type: file, path: " + beyond + "/token}]\n"
	for name, config := range map[string]string{
		"an error":    fileToken + place + "  x: {source: {type: exec}}\n",
		"a move":      "socket: {mode: \"0600\"}\n" + fileToken + place,
		"a state":     "state: {dir: " + beyond + "}\n" + fileToken,
		"unread file": "defaults: {tls: {ca_file: " + beyond + "/ca.pem}}\n" + fileToken,
	} {
		r.write("renewd.yaml", config)
		if out, errs, code := r.cli("reload"); code != exitUsage {
			t.Errorf("%s: %d %s%s", name, code, out, errs)
		} else if strings.Contains(errs, "systemctl reload renewd") != (name == "unread file") {
			t.Errorf("%s: %s", name, errs)
		}
		refused := func() int { return strings.Count(r.log.String(), msgRefused) }
		n := refused()
		r.write("renewd.yaml", config+"# seen as a change\n")
		eventually(t, "the changed file refused too", 10*time.Second, func() bool { return refused() > n })
	}
	m.stays()
	if strings.Contains(r.log.String(), msgAgain) {
		t.Error("the log says that it starts again")
	}
	if out, _, _ := r.cli("get", "f"); out != "abc\n" {
		t.Errorf("get says %q", out)
	}

	// After `renewd check`, as systemctl reload has it, what it read is believed.
	r.write("renewd.yaml", "defaults: {tls: {ca_file: "+beyond+"/ca.pem}}\n"+fileToken)
	_ = r.proc.Process.Signal(syscall.SIGHUP)
	m.again()
	r.stop()
}

// A changed file alone is enough, here with a program, which needs all.
func TestE2EAChangedFileStartsAgain(t *testing.T) {
	hasLandlock(t)
	r := newRig(t, fileToken)
	r.write("f.token", "abc")
	m := newManager(r)
	m.start()
	m.ready()
	eventually(t, "the confinement", 10*time.Second, func() bool { said, _ := r.processOf(); return strings.HasPrefix(said, "confined") })
	r.write("renewd.yaml", fileToken+"  x: {source: {type: exec, command: [/bin/echo, tok], format: raw, lifetime: {default: 1h}}}\n")
	m.again()
	if out, errs, _ := r.cli("get", "x"); out != "tok\n" {
		t.Errorf("get x says %q %s", out, errs)
	}
	if said, _ := r.processOf(); !strings.HasPrefix(said, "not confined: tokens.x.source.command runs a program") {
		t.Errorf("status says %q", said)
	}
	r.stop()
}
