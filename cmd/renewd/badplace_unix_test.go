//go:build unix

package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A place that cannot be written keeps nothing from the others, is told with
// what to type, and is used by itself when it is mended.
func TestBadTargets(t *testing.T) {
	type place struct {
		want  string
		spoil func(dir string) // dir is made, but for "missing"
		mend  func(dir string)
	}
	target := func(dir string) string { return filepath.Join(dir, "tok") }
	must := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(dir string) { must(os.Remove(target(dir))) }
	places := map[string]place{
		"missing":   {"install -d", func(dir string) { must(os.Remove(dir)) }, func(dir string) { must(os.Mkdir(dir, 0o755)) }},
		"open":      {"chmod go-w", func(dir string) { must(os.Chmod(dir, 0o777)) }, func(dir string) { must(os.Chmod(dir, 0o755)) }},
		"file":      {"a file stands where a directory is needed", func(dir string) { must(os.Remove(dir), os.WriteFile(dir, nil, 0o600)) }, func(dir string) { must(os.Remove(dir), os.Mkdir(dir, 0o755)) }},
		"symlink":   {"it is a symlink", func(dir string) { must(os.Symlink("/etc/passwd", target(dir))) }, remove},
		"fifo":      {"it is a FIFO", func(dir string) { must(syscall.Mkfifo(target(dir), 0o600)) }, remove},
		"hardlink":  {"hard links", func(dir string) { must(os.WriteFile(target(dir), nil, 0o600), os.Link(target(dir), target(dir)+"2")) }, remove},
		"directory": {"it is a directory", func(dir string) { must(os.Mkdir(target(dir), 0o755)) }, remove},
	}
	if os.Geteuid() == 0 {
		places["theirs"] = place{"chown", func(dir string) { must(os.Chown(dir, 12345, -1)) }, func(dir string) { must(os.Chown(dir, 0, -1)) }}
		for name, p := range mounts(t) {
			places[name] = place(p)
		}
	}
	config := "tokens:\n  a:\n    source: {type: exec, command: [/bin/echo, tok], lifetime: {max: 1h}}\n    sinks:\n      - {type: file}\n"
	for _, name := range sortedKeys(places) {
		config += fmt.Sprintf("      - {type: file, path: \"{dir}/%s/tok\"}\n", name)
	}
	r := newRig(t, config)
	for name, p := range places {
		must(os.Mkdir(r.path(name), 0o755))
		p.spoil(r.path(name))
	}
	r.start()
	r.waitFile("a")
	said := func(name string) string {
		_, m := r.http("/v1/tokens")
		for _, s := range m["tokens"].([]any)[0].(map[string]any)["sinks"].([]any) {
			s := s.(map[string]any)
			if s["id"] == "file "+r.path(name)+"/tok" {
				return fmt.Sprint(s["error"])
			}
		}
		return ""
	}
	for name, p := range places {
		eventually(t, name+" is told", 10*time.Second, func() bool { return strings.Contains(said(name), p.want) })
		if out, _, code := r.cli("status"); code != exitFailed || !strings.Contains(out, p.want) {
			t.Errorf("%s: status: exit code %d:\n%s", name, code, out)
		}
		if log := r.log.String(); !strings.Contains(log, r.path(name)) {
			t.Errorf("%s: the log says nothing of it", name)
		}
	}
	if got, _, code := r.cli("get", "a"); code != exitOK || got != "tok\n" {
		t.Errorf("get: %q, exit code %d", got, code)
	}
	for name, p := range places {
		p.mend(r.path(name))
	}
	for name := range places {
		eventually(t, name+" is written when mended: "+said(name), 30*time.Second, func() bool {
			b, _ := os.ReadFile(target(r.path(name)))
			return string(b) == "tok"
		})
	}
	eventually(t, "all is well", 30*time.Second, func() bool { _, _, code := r.cli("status"); return code == exitOK })
	r.stop()
}

// A socket's place that cannot be used is told; what stands there is left alone,
// but for the socket of an agent that died.
func TestBadSocketPlaces(t *testing.T) {
	short, err := os.MkdirTemp("", "rw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(short) })
	path := filepath.Join(short, "s")
	config := func(path string) string { return "socket: {path: \"" + path + "\"}\n" + echoToken }
	refused := func(r *rig, want ...string) {
		t.Helper()
		_, errs, code := r.cli("run", "--config", r.path("renewd.yaml"))
		if code == exitOK {
			t.Errorf("it ran")
		}
		for _, w := range want {
			if !strings.Contains(errs, w) {
				t.Errorf("exit code %d: %s\nwant %q", code, errs, w)
			}
		}
	}

	refused(newRig(t, config("/tmp/"+strings.Repeat("long/", 30)+"s")), "the path needs", "set socket.path to a shorter one")

	if err := os.WriteFile(path, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(newRig(t, config(path)), path, "not a socket")
	if b, _ := os.ReadFile(path); string(b) != "theirs" {
		t.Errorf("what stood there holds %q", b)
	}
	_ = os.Remove(path)

	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	live := newRig(t, config(path))
	live.env = append(live.env, "RENEWD_SOCKET="+path)
	live.start()
	live.waitFile("a")
	eventually(t, "it answers where a dead one was", 10*time.Second, func() bool { _, _, code := live.cli("status"); return code == exitOK })
	pid := fmt.Sprint(live.proc.Process.Pid)

	second := newRig(t, config(path)) // another state, the same socket
	refused(second, "another agent serves it", pid, "renewd status")
	same := newRig(t, echoToken) // another socket, the same state
	same.env = append(same.env, "STATE_DIRECTORY="+live.path("state"))
	refused(same, "in use by another agent, process "+pid, "renewd status")
	if _, _, code := live.cli("status"); code != exitOK {
		t.Error("the live one was disturbed")
	}
	live.stop()
}
