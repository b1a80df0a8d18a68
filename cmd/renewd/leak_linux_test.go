package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"renewd/agent/source/standin"
)

// No secret and no token is seen anywhere but where it belongs: not in logs at
// any level, messages, argv, environments of children, status, metrics, events,
// traces, nor in the state in clear.
func TestNothingLeaks(t *testing.T) {
	commander := standin.NewCommander(standin.CommanderOptions{Username: "svc", Password: "S3cret-of-a-file", SpeedUp: 20})
	emnify := standin.NewEmnify(standin.EmnifyOptions{Username: "u", Password: "S3cret-of-a-program", Rotates: true, Access: 8 * time.Second})
	odd := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // an answer that quotes what it was sent
		b, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"message":"S3cret-of-the-server wrong: %s %s"}`, b, r.Header.Get("Authorization"))
	})
	urls := []string{}
	for _, h := range []http.Handler{commander, emnify, odd} {
		srv, err := standin.Serve(h, false)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(srv.Close)
		urls = append(urls, srv.URL)
	}
	r := newRig(t, fmt.Sprintf(`
log: {level: debug, audit: true, format: json}
tokens:
  commander:
    source: {type: commander, url: "%s/rest/v3", username: svc, password: {file: password}, lifetime: {max: 3s}, session: {max_age: 45s}}
    sinks: [{type: file}, {type: file, format: json}, {type: file, path: "{dir}/none/x"}]
  emnify:
    source: {type: emnify, url: "%s", username: u, password: {command: ["{dir}/pass"]}, lifetime: {max: 4s}}
  odd:
    source:
      type: http
      vars: {url: "%s", basic: {env: ODD_SECRET}}
      login: {request: {method: POST, url: "${url}/?k=${basic}", basic: {username: u, password: "${basic}"}, json: {p: S3cret-in-the-config, b: "${basic}"}}, extract: {token: {pointer: /t}}}
      lifetime: {max: 1h}
  prog:
    source: {type: exec, command: ["{dir}/prog"], env: {GIVEN: {file: password}}, lifetime: {max: 1h}}
  bad:
    source: {type: exec, command: ["{dir}/bad"], lifetime: {max: 1h}}
`, urls[0], urls[1], urls[2]))
	r.env = append(r.env, "ODD_SECRET=S3cret-of-the-environment")
	r.write("password", "S3cret-of-a-file")
	for name, text := range map[string]string{
		"pass": "#!/bin/sh\nenv > {dir}/env-of-pass\necho S3cret-of-a-program; echo S3cret-on-stderr >&2\n",
		"prog": "#!/bin/sh\nenv > {dir}/env-of-prog\necho T0ken-of-a-program\n",
		"bad":  "#!/bin/sh\necho S3cret-on-stderr >&2\necho S3cret on stdout\n",
	} {
		r.write(name, text)
		if err := os.Chmod(r.path(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r.start()
	pid := r.proc.Process.Pid
	eventually(t, "it answers", 10*time.Second, func() bool { _, _, code := r.cli("status"); return code != exitNoAgent })
	events := &logBuffer{}
	watch := exec.Command(theBinary(t), "watch")
	watch.Env, watch.Stdout, watch.Stderr = r.env, events, events
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	tokens := map[string]bool{"T0ken-of-a-program": true}
	eventually(t, "tokens come and go", 30*time.Second, func() bool {
		b, _ := os.ReadFile(r.token("commander"))
		out, _, _ := r.cli("get", "emnify")
		for _, s := range []string{string(b), strings.TrimSpace(out)} {
			if s != "" {
				tokens[s] = true
			}
		}
		return len(tokens) > 6 && strings.Contains(r.log.String(), `"odd"`)
	})
	commander.Fail(standin.LongBody, 2)
	emnify.Fail(standin.ErrorIn200, 2)

	seen := map[string]string{}
	add := func(where string, b []byte, err error) {
		if err != nil {
			t.Errorf("%s: %v", where, err)
		}
		seen[where] = string(b)
	}
	for _, path := range []string{"/metrics", "/v1/health", "/v1/tokens", "/v1/tokens/odd"} {
		add(path, []byte(r.text(path)), nil)
	}
	for _, args := range [][]string{{"status"}, {"status", "-o", "json"}, {"get", "odd", "--wait", "0s"}, {"get", "bad", "--wait", "0s"}, {"refresh", "odd", "--wait", "0s"},
		{"check", "--config", r.path("renewd.yaml")}, {"check", "--strict", "--config", r.path("renewd.yaml")}, {"reload"}} {
		o, e, _ := r.cli(args...)
		add(strings.Join(args, " "), []byte(o+e), nil)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	add("argv", b, err)
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if _, core, _ := strings.Cut(string(limits), "Max core file size"); err != nil || strings.Fields(core)[0] != "0" || strings.Fields(core)[1] != "0" {
		t.Errorf("a core dump would hold every secret: %v\n%s", err, limits)
	}
	db, err := os.ReadFile(r.path("state/state.db"))
	add("the state", db, err)
	for _, name := range []string{"env-of-pass", "env-of-prog"} {
		b, err := os.ReadFile(r.path(name))
		text := string(b)
		if name == "env-of-prog" {
			text = strings.Replace(text, "GIVEN=S3cret-of-a-file", "", 1) // that is its own
		}
		add(name, []byte(text), err)
	}
	_ = r.proc.Process.Signal(syscall.SIGQUIT) // every goroutine's trace
	<-r.exited
	r.proc = nil
	_ = watch.Process.Signal(os.Interrupt)
	_ = watch.Wait()
	add("the log and the traces", []byte(r.log.String()), nil)
	add("events", []byte(events.String()), nil)
	if !strings.Contains(seen["the log and the traces"], "goroutine ") || !strings.Contains(seen["events"], "commander") {
		t.Error("no traces or no events: this proves nothing")
	}
	for where, text := range seen {
		for _, word := range []string{"S3cret", "hunter2"} {
			if i := strings.Index(text, word); i >= 0 {
				t.Errorf("%s holds a secret: …%q…", where, text[max(0, i-120):min(len(text), i+30)])
			}
		}
		for tok := range tokens {
			if i := strings.Index(text, tok); i >= 0 {
				t.Errorf("%s holds a token: …%q…", where, text[max(0, i-120):i])
			}
			if sig := tok[strings.LastIndexByte(tok, '.')+1:]; len(sig) > 20 && strings.Contains(text, sig) {
				t.Errorf("%s holds the signature of a token", where)
			}
		}
	}
	left, _ := filepath.Glob(r.path("run/tokens/.renewd-*"))
	for _, f := range left {
		if fi, err := os.Stat(f); err == nil && fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", f, fi.Mode())
		}
	}
}

// text is the body of one call of the socket.
func (r *rig) text(path string) string {
	r.t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", r.socket())
	}}}
	resp, err := c.Get("http://renewd" + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}
