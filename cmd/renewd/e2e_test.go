package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the program, built as the packages have it, once for all end-to-end
// tests: they run it from another process, as users do.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "renewd-bin-")
	if err != nil {
		return "", err
	}
	linked, path := filepath.Join(dir, "linked"), filepath.Join(dir, "renewd")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", linked, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	// A copy, as any installation makes one: what the linker has just written
	// lies in the page cache in pieces of which one touch maps megabytes.
	from, err := os.Open(linked)
	if err != nil {
		return "", err
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(to, from)
	return path, errors.Join(err, to.Close(), os.Remove(linked))
})

func theBinary(t testing.TB) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// proofLength scales a long proof: whole with RENEWD_PROOF=full, a tenth of it
// with tenth, else only long enough to mean something.
func proofLength(whole time.Duration) time.Duration {
	switch os.Getenv("RENEWD_PROOF") {
	case "full":
		return whole
	case "tenth":
		return whole / 10
	}
	return min(whole/10, 6*time.Second)
}

// required fails or skips when a program that a test needs is not there.
func required(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	for _, r := range strings.Split(os.Getenv("RENEWD_REQUIRE"), ",") {
		if r == name {
			t.Fatalf("%s is required and not there", name)
		}
	}
	t.Skipf("%s is not there", name)
	return ""
}

// rig is one agent's directory: config, secrets, state, socket.
type rig struct {
	t      testing.TB
	dir    string
	env    []string
	proc   *exec.Cmd
	log    *logBuffer
	exited chan error
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newRig makes a directory with a config; "{dir}" in it stands for the directory.
// Peer check, allow, metrics, log and state are on, as in every real use.
func newRig(t testing.TB, config string) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t: t, dir: dir, log: &logBuffer{}}
	r.inMemory()
	r.env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "RUNTIME_DIRECTORY="+filepath.Join(dir, "run"), "STATE_DIRECTORY="+filepath.Join(dir, "state"),
		"RENEWD_SOCKET="+r.socket(), "NO_COLOR=1", "JOURNAL_STREAM=")
	r.write("renewd.yaml", config)
	t.Cleanup(func() {
		if r.proc != nil {
			r.kill()
		}
		if t.Failed() {
			t.Logf("log of the agent:\n%s", telling(r.log.String(), 60))
		}
	})
	return r
}

func tail(s string, lines int) string {
	l := strings.Split(s, "\n")
	return strings.Join(l[max(0, len(l)-lines):], "\n")
}

// telling is the end of a log, and of what comes before all but the rounds that an
// agent makes when all is well, with those that stand beside something else.
func telling(log string, end int) string {
	all := strings.Split(log, "\n")
	usual := func(i int) bool {
		return i < 0 || i >= len(all) || strings.Contains(all[i], `"msg":"token renewed"`) || strings.Contains(all[i], `"msg":"token read"`)
	}
	var told []string
	for i, line := range all {
		if i >= len(all)-end || !usual(i-1) || !usual(i) || !usual(i+1) {
			told = append(told, line)
		}
	}
	return strings.Join(told[max(0, len(told)-1000):], "\n")
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }
func (r *rig) socket() string          { return r.path("run/renewd.sock") }
func (r *rig) token(name string) string {
	return r.path("run/tokens/" + name)
}

func (r *rig) write(name, text string) {
	r.t.Helper()
	text = strings.ReplaceAll(text, "{dir}", r.dir)
	if err := os.WriteFile(r.path(name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// inMemory puts the runtime directory where /run is: on a tmpfs, if there is one.
func (r *rig) inMemory() {
	r.t.Helper()
	mem, err := os.MkdirTemp("/dev/shm", "renewd-")
	if err != nil {
		return // no such place on this system
	}
	r.t.Cleanup(func() { _ = os.RemoveAll(mem) })
	if err := errors.Join(os.Chmod(mem, 0o755), os.Symlink(mem, r.path("run"))); err != nil {
		r.t.Fatal(err)
	}
}

// start runs the agent and returns at once.
func (r *rig) start() {
	r.t.Helper()
	c := exec.Command(theBinary(r.t), "run", "--config", r.path("renewd.yaml"))
	c.Env = r.env
	r.begin(c)
}

// begin runs an agent and returns at once.
func (r *rig) begin(c *exec.Cmd) {
	r.t.Helper()
	r.proc = c
	r.proc.Stderr = r.log
	if err := r.proc.Start(); err != nil {
		r.t.Fatal(err)
	}
	exited := make(chan error, 1)
	r.exited = exited
	go func(p *exec.Cmd) { exited <- p.Wait() }(r.proc)
}

// kill is kill -9.
func (r *rig) kill() {
	_ = r.proc.Process.Kill()
	<-r.exited
	r.proc = nil
}

// stop is what systemd does.
func (r *rig) stop() {
	r.t.Helper()
	began := time.Now()
	defer func() {
		if d := time.Since(began); d > 3*time.Second {
			r.t.Logf("the stop took %v:\n%s", d, tail(r.log.String(), 12))
		}
	}()
	_ = r.proc.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.exited:
	case <-time.After(40 * time.Second):
		r.t.Error("the agent did not stop within 40 s")
		_ = r.proc.Process.Kill()
		<-r.exited
	}
	r.proc = nil
}

// cli runs another verb and gives its output and exit code.
func (r *rig) cli(args ...string) (stdout, stderr string, code int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, theBinary(r.t), args...)
	c.Env = r.env
	c.Dir = r.dir
	var o, e bytes.Buffer
	c.Stdout, c.Stderr = &o, &e
	err := c.Run()
	if x, ok := errors.AsType[*exec.ExitError](err); ok {
		code = x.ExitCode()
	} else if err != nil {
		r.t.Fatal(err)
	}
	return o.String(), e.String(), code
}

// eventually waits for a condition, never for a time.
func eventually(t testing.TB, what string, within time.Duration, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen within %v: %s", within, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (r *rig) waitFile(name string) string {
	r.t.Helper()
	var b []byte
	eventually(r.t, name+" holds a token", 30*time.Second, func() bool {
		var err error
		b, err = os.ReadFile(r.token(name))
		return err == nil && len(b) > 0
	})
	return string(b)
}

// http calls the agent's socket.
func (r *rig) http(path string) (int, map[string]any) {
	r.t.Helper()
	c := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", r.socket())
		}}}
	resp, err := c.Get("http://renewd" + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	var m map[string]any
	_ = json.NewDecoder(resp.Body).Decode(&m)
	return resp.StatusCode, m
}

// wipe makes the next start the first one.
func (r *rig) wipe() {
	r.t.Helper()
	for _, d := range []string{"run", "state"} {
		inside, err := os.ReadDir(r.path(d))
		if err != nil && !errors.Is(err, os.ErrNotExist) { // killed before it was made
			r.t.Fatal(err)
		}
		for _, e := range inside {
			if err := os.RemoveAll(filepath.Join(r.path(d), e.Name())); err != nil {
				r.t.Fatal(err)
			}
		}
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
