package e2e

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"renewd/agent/source/standin"
)

const data = `C:\ProgramData\renewd`

// shipped builds renewd.exe as anybody would, and puts it on drive C:.
func (w *wine) shipped(version string) string {
	w.t.Helper()
	c := exec.CommandContext(w.t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w -X main.version="+version, "-o", w.c(`C:\renewd.exe`), "./cmd/renewd")
	c.Dir = source(w.t)
	c.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := c.CombinedOutput(); err != nil {
		w.t.Fatalf("build renewd.exe: %v: %s", err, out)
	}
	return `C:\renewd.exe`
}

// vendor is Commander's API, on this machine's loopback, which is Windows' too.
func (w *wine) vendor() (*standin.Commander, string) {
	c := standin.NewCommander(standin.CommanderOptions{Username: "svc", Password: password})
	srv := httptest.NewServer(c)
	w.t.Cleanup(srv.Close)
	return c, srv.URL
}

func (w *wine) write(path, text string) {
	w.t.Helper()
	at := w.c(path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o644)); err != nil {
		w.t.Fatal(err)
	}
}

// told waits until the event log was told of something. Lines begin with err,
// warn or trace, by their level.
func (w *wine) told(level, text string) {
	w.t.Helper()
	eventually(w.t, "an event: "+level+" "+text, 20*time.Second, func() bool {
		all, _ := os.ReadFile(w.events)
		for line := range strings.Lines(string(all)) {
			if strings.Contains(line, ":"+level+":eventlog:") && strings.Contains(line, text) {
				return true
			}
		}
		return false
	})
}

func eventually(t *testing.T, what string, within time.Duration, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > within {
			t.Fatalf("did not happen within %v: %s", within, what)
		}
	}
}

func windowsConfig(url string) string {
	return "tokens:\n  commander:\n    source:\n      type: commander\n      url: " + url + "/rest/v3\n      username: svc\n      password: {file: commander.password}\n" +
		"    sinks:\n      - {type: file}\n      - {type: file, format: header, group: 'NT SERVICE\\other'}\n    allow: {users: ['S-1-5-21-1-2-3-1001']}\n"
}

// The service by the program's own verbs: install, start, the pipe and the file
// read, restart without a login, stop, uninstall, purge. Each verb may be repeated.
func TestE2EWineService(t *testing.T) {
	w := newWine(t)
	vendor, url := w.vendor()
	renewd := w.shipped("1.0.0")
	if said := w.refused(renewd, "service", "start"); !strings.Contains(said, "not installed") {
		t.Errorf("a start before the installation says:\n%s", said)
	}
	if err := os.Chmod(w.c(renewd), 0o777); err != nil {
		t.Fatal(err)
	}
	if said := w.refused(renewd, "service", "install"); !strings.Contains(said, "may be changed by") {
		t.Errorf("of a program that everybody may write it says:\n%s", said)
	}
	if err := os.Chmod(w.c(renewd), 0o755); err != nil {
		t.Fatal(err)
	}
	first, again := w.run(renewd, "service", "install"), w.run(renewd, "service", "install")
	if !strings.Contains(first, `installed the service renewd as NT SERVICE\renewd`) || !strings.Contains(first, "made "+data) || !strings.Contains(again, "installed already") || strings.Contains(again, "made ") {
		t.Errorf("first:\n%s\nagain:\n%s", first, again)
	}
	key := w.run("reg", "query", `HKLM\SYSTEM\CurrentControlSet\Services\renewd`)
	for _, want := range []string{`"C:\renewd.exe" run`, `NT SERVICE\renewd`, "DelayedAutoStart    REG_DWORD    0x1", "Start    REG_DWORD    0x2"} {
		if !strings.Contains(key, want) {
			t.Errorf("the service lacks %s:\n%s", want, key)
		}
	}
	w.run("reg", "query", `HKLM\SYSTEM\CurrentControlSet\Services\EventLog\Application\renewd`, "/v", "EventMessageFile")

	w.write(data+`\renewd.yaml`, "tokens: [\n")
	if said := w.refused(renewd, "service", "start"); !strings.Contains(said, "ended with exit code 2") {
		t.Errorf("a start with a broken config says:\n%s", said)
	}
	w.told("err", "renewd.yaml")

	w.write(data+`\renewd.yaml`, windowsConfig(url))
	w.write(data+`\commander.password`, password)
	for range 2 {
		w.run(renewd, "service", "start")
	}
	if said := w.run(renewd, "service", "status"); !strings.Contains(said, "state: running") {
		t.Errorf("status says:\n%s", said)
	}
	token := w.run(renewd, "get", "commander", "--wait", "20s")
	if !vendor.Valid(token) {
		t.Fatalf("get says %q", token)
	}
	eventually(t, "the token in its file", 10*time.Second, func() bool {
		text, _ := os.ReadFile(w.c(data + `\run\tokens\commander`))
		return string(text) == token
	})
	w.told("trace", "agent started")
	w.told("trace", "token renewed")
	w.pipe(renewd, token)

	before := w.generation(renewd)
	w.run(renewd, "service", "restart")
	eventually(t, "the token after a restart", 10*time.Second, func() bool { return w.generation(renewd) >= before })
	if n := vendor.Counts().Logins; n != 1 {
		t.Errorf("%d logins, one was needed", n)
	}
	for range 2 {
		w.run(renewd, "service", "stop")
	}
	w.told("trace", "agent stopped")
	w.refused(renewd, "service", "status")
	if said := w.run(renewd, "service", "uninstall"); !strings.Contains(said, "kept "+data) {
		t.Errorf("uninstall says:\n%s", said)
	}
	if _, err := os.Stat(w.c(data + `\state\state.db`)); err != nil {
		t.Error("uninstall took the state")
	}
	w.run(renewd, "service", "install")
	for range 2 {
		w.run(renewd, "service", "uninstall", "--purge")
	}
	if _, err := os.Stat(w.c(data)); err == nil {
		t.Error("uninstall --purge left the data")
	}
	if out := w.refused("reg", "query", `HKLM\SYSTEM\CurrentControlSet\Services\renewd`); strings.Contains(out, "ImagePath") {
		t.Errorf("uninstall left the service:\n%s", out)
	}
}

// A user's own agent on a console: its pipe carries the user's SID, its key is
// sealed for the user, and an interrupt ends it. A config that others may write is
// refused.
func TestE2EWineOwnAgent(t *testing.T) {
	w := newWine(t)
	vendor, url := w.vendor()
	renewd := w.shipped("1.0.0")
	w.write(`C:\my\renewd.yaml`, windowsConfig(url))
	w.write(`C:\my\commander.password`, password)
	if err := os.Chmod(w.c(`C:\my\renewd.yaml`), 0o666); err != nil {
		t.Fatal(err)
	}
	if said := w.refused(renewd, "run", "--config", `C:\my\renewd.yaml`); !strings.Contains(said, "may be changed by") || !strings.Contains(said, "icacls") {
		t.Errorf("of a config that everybody may write it says:\n%s", said)
	}
	if err := os.Chmod(w.c(`C:\my\renewd.yaml`), 0o644); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	agent := exec.Command(w.loader, renewd, "run", "--config", `C:\my\renewd.yaml`)
	agent.Env, agent.Stdout, agent.Stderr = append(os.Environ(), w.env...), log, log
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- agent.Wait() }()
	defer func() { _ = agent.Process.Kill() }()
	eventually(t, "the token", 30*time.Second, func() bool { return w.generation(renewd) > 0 })
	const own = `\\.\pipe\renewd-S-1-5-21-0-0-0-1000` // Wine's one user
	if token := w.run(renewd, "get", "commander", "--socket", own); !vendor.Valid(token) {
		t.Errorf("its own pipe gives %q", token)
	}
	if said := w.refused(renewd, "get", "commander", "--socket", `\\.\pipe\renewd`); !strings.Contains(said, "no agent answers") {
		t.Errorf("the machine's pipe says:\n%s", said)
	}
	if said := w.run(renewd, "status"); !strings.Contains(said, "sealed with DPAPI of this account") {
		t.Errorf("status says:\n%s", said)
	}
	if err := agent.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if text, _ := os.ReadFile(log.Name()); err != nil || !strings.Contains(string(text), "agent stopped") {
			t.Errorf("it ended: %v\n%s", err, text)
		}
	case <-time.After(20 * time.Second):
		t.Error("an interrupt does not end it")
	}
	if said := w.run(renewd, "demo", "--for", "6s"); !strings.Contains(said, " logins, ") || strings.Contains(said, "demo: 0 logins") || strings.Contains(said, " 0 refreshes") {
		t.Errorf("the demo says:\n%s", said)
	}
}

// pipe asks the agent what a client may.
func (w *wine) pipe(renewd, token string) {
	w.t.Helper()
	if got := w.run(renewd, "get", "commander", "-f", "header", "--socket", `\\.\pipe\renewd`); got != "Authorization: Bearer "+token {
		w.t.Errorf("the header is %q", got)
	}
	if got := w.run(renewd, "status"); !strings.Contains(got, "commander") || strings.Contains(got, token) ||
		!strings.Contains(got, "sealed with DPAPI of this machine") {
		w.t.Errorf("status says:\n%s", got)
	}
	if got := w.refused(renewd, "get", "missing"); !strings.Contains(got, `no token "missing"`) {
		w.t.Errorf("of a token that is not there:\n%s", got)
	}
	w.run(renewd, "reload")
}

func (w *wine) generation(renewd string) int {
	out, err := w.try(nil, w.loader, renewd, "get", "commander", "-f", "json", "--wait", "5s")
	var v struct {
		Generation int `json:"generation"`
	}
	if err != nil || json.Unmarshal([]byte(out), &v) != nil {
		return 0
	}
	return v.Generation
}
