package e2e

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// phone is a token for which a person signs in on another device (RFC 8628).
const phone = `tokens:
  phone:
    source:
      type: oauth2
      grant: device_code
      client_id: box
      device_authorization_url: http://127.0.0.1:8090/device
      token_url: http://127.0.0.1:8090/token
    allow: {groups: [ops]}
`

// identity hands out a code, and a token once somebody has approved it.
func (b *box) identity() (approve func()) {
	b.t.Helper()
	var approved atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("POST /device", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"device_code":"d","user_code":"WDJB-MJHT","verification_uri":"https://id.example.com/device","interval":1,"expires_in":300}`)
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if !approved.Load() {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":"authorization_pending"}`)
			return
		}
		_, _ = io.WriteString(w, `{"access_token":"signed-in-by-a-person","refresh_token":"r","token_type":"Bearer","expires_in":600}`)
	})
	l, err := net.Listen("unix", filepath.Join(b.root, "srv/id.sock"))
	if err != nil {
		b.t.Fatal(err)
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = srv.Serve(l) }()
	b.t.Cleanup(func() { _ = srv.Close() })
	b.write("etc/systemd/system/id.socket", "[Socket]\nListenStream=127.0.0.1:8090\n", 0o644)
	b.write("etc/systemd/system/id.service", "[Service]\nExecStart=/lib/systemd/systemd-socket-proxyd /srv/id.sock\n", 0o644)
	b.run("systemctl", "daemon-reload")
	b.run("systemctl", "start", "id.socket")
	return func() { approved.Store(true) }
}

// signsIn: a person of the agent's group signs in from an account of their own,
// and never holds what the agent holds; a reader may not.
func (b *box) signsIn(t *testing.T) {
	approve := b.identity()
	b.write("etc/renewd/conf.d/phone.yaml", phone, 0o644)
	b.run("systemctl", "reload", "renewd.service")
	b.run("useradd", "-m", "-G", "renewd", "clerk")
	if said := b.refused(as("reader", "renewd", "login", "phone")...); strings.Contains(said, "WDJB-MJHT") {
		t.Errorf("a reader got the code:\n%s", said)
	}

	shown := filepath.Join(b.root, "home/clerk/shown")
	type end struct {
		said string
		err  error
	}
	ended := make(chan end, 1)
	go func() {
		said, err := b.try(as("clerk", "sh", "-c", "renewd login phone >/home/clerk/shown 2>&1")...)
		ended <- end{said, err}
	}()
	b.eventually("the code, on the clerk's terminal", 10*time.Second, func() bool {
		text, _ := os.ReadFile(shown)
		return strings.Contains(string(text), "WDJB-MJHT") && strings.Contains(string(text), "https://id.example.com/device")
	})
	approve()
	select {
	case e := <-ended:
		text, err := os.ReadFile(shown)
		if err = errors.Join(err, e.err); err != nil || strings.Contains(string(text), "signed-in-by-a-person") {
			t.Errorf("login: %v\n%s\n%s", err, e.said, text)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("login did not end")
	}
	if got := b.run(as("reader", "renewd", "get", "phone")...); got != "signed-in-by-a-person" {
		t.Errorf("the reader got %q", got)
	}

	b.run("userdel", "-r", "clerk")
	b.run("rm", "/etc/renewd/conf.d/phone.yaml")
	b.run("systemctl", "reload", "renewd.service")
	b.run("systemctl", "stop", "id.socket", "id.service")
	b.run("rm", "/etc/systemd/system/id.socket", "/etc/systemd/system/id.service")
	b.run("systemctl", "daemon-reload")
}
