package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"rsc.io/qr"
)

// identity is a small OAuth 2.0 server: RFC 8628, RFC 7636 and RFC 7009, refresh
// tokens that rotate.
type identity struct {
	*httptest.Server
	mu        sync.Mutex
	n         int
	user      string // the device's code; empty: none is out
	approved  bool
	challenge string
	refresh   string
	revoked   []string
}

func newIdentity(t *testing.T) *identity {
	t.Helper()
	id := &identity{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /device", id.device)
	mux.HandleFunc("GET /authorize", id.authorize)
	mux.HandleFunc("POST /token", id.token)
	mux.HandleFunc("POST /revoke", func(w http.ResponseWriter, r *http.Request) {
		id.mu.Lock()
		defer id.mu.Unlock()
		id.revoked = append(id.revoked, r.FormValue("token"))
	})
	id.Server = httptest.NewServer(mux)
	t.Cleanup(id.Close)
	return id
}

func (id *identity) device(w http.ResponseWriter, _ *http.Request) {
	id.mu.Lock()
	defer id.mu.Unlock()
	id.n++
	id.user, id.approved = fmt.Sprintf("CODE-%d", id.n), false
	reply(w, http.StatusOK, map[string]any{"device_code": "d" + id.user, "user_code": id.user, "interval": 1, "expires_in": 300,
		"verification_uri": id.URL + "/go", "verification_uri_complete": id.URL + "/go?c=" + id.user})
}

// authorize is what a browser that is signed in already sees.
func (id *identity) authorize(w http.ResponseWriter, r *http.Request) {
	id.mu.Lock()
	defer id.mu.Unlock()
	q := r.URL.Query()
	id.challenge = q.Get("code_challenge")
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || q.Get("code_challenge_method") != "S256" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	back.RawQuery = url.Values{"code": {"the-code"}, "state": {q.Get("state")}}.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

func (id *identity) token(w http.ResponseWriter, r *http.Request) {
	id.mu.Lock()
	defer id.mu.Unlock()
	refused := ""
	switch r.FormValue("grant_type") {
	case "urn:ietf:params:oauth:grant-type:device_code":
		if r.FormValue("device_code") != "d"+id.user || id.user == "" {
			refused = "expired_token"
		} else if !id.approved {
			refused = "authorization_pending"
		}
	case "authorization_code":
		if r.FormValue("code") != "the-code" || id.challenge == "" || r.FormValue("code_verifier") == "" {
			refused = "invalid_grant"
		}
	case "refresh_token":
		if r.FormValue("refresh_token") != id.refresh {
			refused = "invalid_grant"
		}
	default:
		refused = "unsupported_grant_type"
	}
	if refused != "" {
		reply(w, http.StatusBadRequest, map[string]any{"error": refused})
		return
	}
	id.n++
	id.refresh = fmt.Sprintf("refresh-%d", id.n)
	reply(w, http.StatusOK, map[string]any{"access_token": fmt.Sprintf("access-%d", id.n), "refresh_token": id.refresh, "token_type": "Bearer", "expires_in": 4})
}

func (id *identity) approve() {
	id.mu.Lock()
	defer id.mu.Unlock()
	id.approved = true
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// signingIn is a `renewd login` under way.
type signingIn struct {
	cmd         *exec.Cmd
	out, stderr *logBuffer
}

func (r *rig) login(name string) *signingIn {
	r.t.Helper()
	s := &signingIn{exec.Command(theBinary(r.t), "login", name), &logBuffer{}, &logBuffer{}}
	s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = r.env, s.out, s.stderr
	if err := s.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	return s
}

// shown waits until a pattern was shown and gives its first group.
func (s *signingIn) shown(t *testing.T, pattern string) string {
	t.Helper()
	var m []string
	eventually(t, "login shows "+pattern, 20*time.Second, func() bool {
		m = regexp.MustCompile(pattern).FindStringSubmatch(s.stderr.String())
		return m != nil
	})
	return m[1]
}

// A device code is shown, approved elsewhere, and the session lives on: refreshed,
// over a restart, until a logout revokes it.
func TestE2ELoginWithADeviceCode(t *testing.T) {
	id := newIdentity(t)
	r := newRig(t, fmt.Sprintf(`
tokens:
  dev:
    source: {type: oauth2, grant: device_code, client_id: tool, client_auth: none, token_url: "%[1]s/token", device_authorization_url: "%[1]s/device", revocation_url: "%[1]s/revoke", session: {rotates: true}}
    sinks: [{type: file}]
`, id.URL))
	r.start()
	eventually(t, "status says that a person is needed", 20*time.Second, func() bool {
		out, _, _ := r.cli("status", "dev")
		return strings.Contains(out, "renewd login dev")
	})
	if _, stderr, code := r.cli("get", "dev", "--wait", "0s"); code != exitNotValid || !strings.Contains(stderr, "renewd login dev") {
		t.Errorf("get exits %d: %s", code, stderr)
	}
	s := r.login("dev")
	if got := s.shown(t, `enter the code:\s+(CODE-\d+)`); got != id.user {
		t.Errorf("the code shown is %q", got)
	}
	s.shown(t, `(on any device):\s+`+regexp.QuoteMeta(id.URL)+"/go\n")
	id.approve()
	if err := s.cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, s.stderr)
	}
	if got := s.out.String(); got != "signed in: dev is at generation 1\n" {
		t.Errorf("login says %q", got)
	}
	first := r.waitFile("dev")
	eventually(t, "the session is refreshed", 20*time.Second, func() bool { b, _ := os.ReadFile(r.token("dev")); return len(b) > 0 && string(b) != first })
	r.kill()
	r.start()
	eventually(t, "it goes on after a restart", 20*time.Second, func() bool { out, _, _ := r.cli("get", "dev"); return strings.HasPrefix(out, "access-") })
	if out, stderr, code := r.cli("logout", "dev"); code != 0 {
		t.Fatalf("logout exits %d: %s%s", code, out, stderr)
	}
	id.mu.Lock()
	revoked := strings.Join(id.revoked, " ")
	id.mu.Unlock()
	if !strings.Contains(revoked, "refresh-") {
		t.Errorf("revoked was %q", revoked)
	}
	eventually(t, "the file goes", 20*time.Second, func() bool { _, err := os.Stat(r.token("dev")); return os.IsNotExist(err) })
	r.stop()
}

// Who waits may stop waiting, and is told what becomes of the code.
func TestE2ELoginInterrupted(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no interrupt can be sent to one process")
	}
	id := newIdentity(t)
	asked, released := make(chan struct{}, 64), make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	mute := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{}; <-released }))
	defer mute.Close()
	defer release()
	r := newRig(t, fmt.Sprintf(`
tokens:
  dev:
    source: {type: oauth2, grant: device_code, client_id: tool, client_auth: none, token_url: "%[1]s/token", device_authorization_url: "%[1]s/device"}
  down:
    source: {type: oauth2, grant: client_credentials, client_id: svc, client_secret: "hunter2", token_url: "%[2]s/token"}
`, id.URL, mute.URL))
	r.start()
	eventually(t, "the agent answers", 20*time.Second, func() bool { _, _, code := r.cli("status"); return code != exitNoAgent })
	<-asked // the agent waits for an answer, and so does who asks for another login
	down := r.login("down")
	time.Sleep(500 * time.Millisecond) // it waits for an answer, and shows nothing
	if err := down.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if _ = down.cmd.Wait(); down.cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(down.stderr.String(), "interrupted") {
		t.Errorf("one without a person: exit %d: %s", down.cmd.ProcessState.ExitCode(), down.stderr)
	}
	s := r.login("dev")
	s.shown(t, `enter the code:\s+(CODE-\d+)`)
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("it waits on after an interrupt")
	}
	if code := s.cmd.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(s.stderr.String(), "interrupted before anybody signed in") {
		t.Errorf("exit %d: %s", code, s.stderr)
	}
	release()
	r.stop()
}

// A source that is down is said at once, with the kind and what to do; and who
// waits for a person when the agent stops is told just that.
func TestE2ELoginThatFails(t *testing.T) {
	id := newIdentity(t)
	r := newRig(t, fmt.Sprintf(`
tokens:
  dev:
    source: {type: oauth2, grant: device_code, client_id: tool, client_auth: none, token_url: "%[1]s/token", device_authorization_url: "%[1]s/device"}
  away: {source: {type: oauth2, grant: device_code, client_id: tool, client_auth: none, token_url: "http://127.0.0.1:1/token", device_authorization_url: "http://127.0.0.1:1/device"}}
  down: {source: {type: oauth2, grant: client_credentials, client_id: svc, client_secret: "hunter2", token_url: "http://127.0.0.1:1/token"}}
`, id.URL))
	r.start()
	eventually(t, "the agent answers", 20*time.Second, func() bool { _, _, code := r.cli("status"); return code != exitNoAgent })
	for _, name := range []string{"down", "away"} {
		began := time.Now()
		_, stderr, code := r.cli("login", name)
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("%s: it took %v to say that nobody listens", name, took)
		}
		if code != exitNotValid || !strings.Contains(stderr, "the login failed: transient: 127.0.0.1:1 refuses connections") || !strings.Contains(stderr, "hint: ") {
			t.Errorf("%s: exit %d: %s", name, code, stderr)
		}
	}
	s := r.login("dev")
	s.shown(t, `enter the code:\s+(CODE-\d+)`)
	r.stop()
	_ = s.cmd.Wait()
	if code := s.cmd.ProcessState.ExitCode(); code != exitNoAgent || !strings.Contains(s.stderr.String(), "the agent stopped before anybody signed in") {
		t.Errorf("the agent stopped: exit %d: %s", code, s.stderr)
	}
}

// A browser on this machine is sent to the agent's port, which belongs to
// another process than the one that waits.
func TestE2ELoginWithABrowser(t *testing.T) {
	id := newIdentity(t)
	r := newRig(t, fmt.Sprintf(`
tokens:
  web:
    source: {type: oauth2, grant: authorization_code, client_id: tool, client_auth: none, token_url: "%[1]s/token", authorization_url: "%[1]s/authorize", revocation_url: "%[1]s/revoke"}
    sinks: [{type: file}]
  inhouse: {source: {type: exec, command: [date, "+%%s%%N"], lifetime: {default: 1h}}}
`, id.URL))
	r.start()
	eventually(t, "the agent answers", 20*time.Second, func() bool { _, _, code := r.cli("status"); return code != exitNoAgent })
	s := r.login("web")
	to := s.shown(t, `in a browser on this machine:\s+(\S+)\n`)
	resp, err := http.Get(to)
	if err != nil {
		t.Fatal(err)
	}
	var page bytes.Buffer
	_, _ = page.ReadFrom(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !strings.Contains(page.String(), "close") {
		t.Errorf("the browser sees %s:\n%s", resp.Status, page.String())
	}
	if err := s.cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, s.stderr)
	}
	if got := r.waitFile("web"); !strings.HasPrefix(got, "access-") {
		t.Errorf("the file holds %q", got)
	}
	out, stderr, code := r.cli("login", "inhouse")
	if code != 0 || !strings.Contains(out, "needs no person") {
		t.Errorf("a token that needs nobody: exit %d, %q %q", code, out, stderr)
	}
	r.stop()
}

// What a terminal shows is the code that was meant: every module is read back.
func TestQRCodeIsDrawnAsItIs(t *testing.T) {
	code, err := qr.Encode("https://id.example.com/device?user_code=WDJB-MJHT", qr.L)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	drawQR(&b, code)
	light := map[rune][2]bool{'█': {true, true}, '▀': {true, false}, '▄': {false, true}, ' ': {false, false}}
	for row, line := range strings.Split(strings.TrimRight(b.String(), "\n"), "\n") {
		line = strings.TrimSuffix(strings.TrimPrefix(line, "    \x1b[40;97m"), "\x1b[0m")
		for col, c := range []rune(line) {
			for half, isLight := range light[c] {
				if x, y := col-2, 2*row+half-2; code.Black(x, y) == isLight {
					t.Fatalf("module %d,%d is drawn wrong", x, y)
				}
			}
		}
	}
}
