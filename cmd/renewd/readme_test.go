package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"renewd/agent/source/standin"
)

// blocks are README's fenced blocks of one language.
func blocks(t *testing.T, language string) []string {
	t.Helper()
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range regexp.MustCompile("(?ms)^( *)```"+language+"\n(.*?)^ *```").FindAllStringSubmatch(string(b), -1) {
		text := ""
		for line := range strings.Lines(m[2]) {
			text += strings.TrimPrefix(line, m[1]) // as far as a list indents it
		}
		out = append(out, text)
	}
	return out
}

// thingsAPI is an API that wants a token and counts who has one.
func thingsAPI(t *testing.T, api *standin.Commander) (url string, accepted func() int) {
	var mu sync.Mutex
	n := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); !ok || !api.Valid(token) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mu.Lock()
		n++
		mu.Unlock()
	}))
	t.Cleanup(srv.Close)
	return srv.URL, func() int { mu.Lock(); defer mu.Unlock(); return n }
}

// Every command that README shows for reading a token works as it stands there,
// but for names and places.
func TestE2EReadmeReadsTokens(t *testing.T) {
	required(t, "curl")
	required(t, "bash")
	r, api, _ := commanderRig(t, standin.CommanderOptions{})
	config, err := os.ReadFile(r.path("renewd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	r.write("renewd.yaml", strings.Replace(string(config), "{type: file}\n", "{type: file}\n      - {type: file, format: header}\n", 1))
	things, accepted := thingsAPI(t, api)
	bin := t.TempDir()
	if err := os.Symlink(theBinary(t), filepath.Join(bin, "renewd")); err != nil {
		t.Fatal(err)
	}
	r.env = append(r.env, "PATH="+bin+":"+os.Getenv("PATH"))
	r.start()
	r.waitFile("c.header")
	here := strings.NewReplacer("NAME", "c", "/run/renewd/tokens", r.path("run/tokens"), "/run/renewd/renewd.sock", r.socket(), "https://api.example.com", things)
	ran := 0
	for _, block := range blocks(t, "bash") {
		if !strings.Contains(block, "NAME") {
			continue
		}
		for line := range strings.Lines(block) {
			line = strings.TrimSpace(here.Replace(line))
			if line == "" || strings.HasPrefix(line, "renewd reject") {
				continue
			}
			before := accepted()
			c := exec.Command("bash", "-euo", "pipefail", "-c", strings.ReplaceAll(line, "curl ", "curl -fsS "))
			c.Env = r.env
			out, err := c.CombinedOutput()
			if err != nil {
				t.Errorf("%s\n%v: %s", line, err, out)
			}
			if strings.Contains(line, things) && accepted() != before+1 {
				t.Errorf("%s\nthe API did not accept the call", line)
			}
			ran++
		}
	}
	if ran < 5 {
		t.Errorf("only %d commands were found", ran)
	}
	out, errs, code := r.cli("reject", "c", "1")
	if code != 0 || !strings.Contains(out, "generation") {
		t.Errorf("reject: %d %s%s", code, out, errs)
	}

	python := required(t, "python3")
	for _, block := range blocks(t, "python") {
		c := exec.Command(python, "-c", here.Replace(block))
		out, err := c.CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "Bearer ") || !api.Valid(strings.TrimSpace(strings.TrimPrefix(string(out), "Bearer "))) {
			t.Errorf("python: %v: %s", err, out)
		}
	}
}

// README's config is one that check accepts, and its verbs are ones that exist.
func TestReadmeConfigAndVerbs(t *testing.T) {
	for _, block := range blocks(t, "yaml") {
		if out, errs, code := checkFile(t, []byte(block), nil); code != exitOK {
			t.Errorf("%s\n%d %s%s", block, code, out, errs)
		}
	}
	root := newRoot()
	for _, block := range blocks(t, "bash") {
		for line := range strings.Lines(block) {
			args := strings.Fields(line)
			if len(args) < 2 || args[0] != "renewd" {
				continue
			}
			if c, _, err := root.Find(args[1:]); err != nil || c == root {
				t.Errorf("README shows %q, which does not exist", strings.TrimSpace(line))
			}
		}
	}
}

// The demo does what README says: within a minute a re-login, and a file that
// always holds a valid token. Its clocks cannot be hurried, so this is as long as
// one session.
func TestE2EDemo(t *testing.T) {
	dir := t.TempDir()
	c := exec.Command(theBinary(t), "demo", "--dir", dir, "--for", "50s")
	out := &logBuffer{}
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	file := filepath.Join(dir, "tokens", "demo.json")
	eventually(t, "the demo's token", 20*time.Second, func() bool { _, err := os.Stat(file); return err == nil })
	ended, read := make(chan struct{}), make(chan error, 1)
	reads := 0
	go func() { read <- alwaysValid(file, ended, &reads) }()
	done := make(chan error, 1)
	go func() { defer close(ended); done <- c.Wait() }()
	t.Parallel() // it goes on while other tests run

	if err := <-done; err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	if s := out.String(); !strings.Contains(s, `"step":"refresh"`) || !strings.Contains(s, "demo: 2 logins") && !strings.Contains(s, "demo: 3 logins") {
		t.Errorf("no refresh or no re-login:\n%s", tail(s, 20))
	}
	t.Logf("%d reads", reads)
}

// alwaysValid reads a token's file until ended; an error says when it held no
// valid token.
func alwaysValid(file string, ended <-chan struct{}, reads *int) error {
	for {
		b, err := os.ReadFile(file)
		select {
		case <-ended: // and with it the file
			return nil
		default:
		}
		if err != nil {
			return err
		}
		*reads++
		var tok struct {
			ExpiresAt time.Time `json:"expires_at"`
		}
		if err := json.Unmarshal(b, &tok); err != nil {
			return fmt.Errorf("torn: %w", err)
		}
		if time.Until(tok.ExpiresAt) < -time.Second { // the file's times are whole seconds
			return fmt.Errorf("the file held a token that expired at %v", tok.ExpiresAt)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
