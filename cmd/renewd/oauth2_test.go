package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// issuer is a small OAuth server whose refresh tokens rotate and are good once.
type issuer struct {
	url string

	mu       sync.Mutex
	n        int
	refresh  string // the one that is good
	reused   int    // spent ones that came again
	refused  []string
	revoked  []string
	exchange []string // subject tokens
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	_ = r.ParseForm()
	w.Header().Set("Content-Type", "application/json")
	answer := func(status int, m map[string]any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(m)
	}
	i.n++
	out := map[string]any{"token_type": "Bearer", "expires_in": 3, "access_token": fmt.Sprintf("%s-%d", r.Form.Get("grant_type")[strings.LastIndex(r.Form.Get("grant_type"), ":")+1:], i.n)}
	id, secret, _ := r.BasicAuth()
	secret, _ = url.QueryUnescape(secret) // RFC 6749 §2.3.1
	switch grant := r.Form.Get("grant_type"); {
	case r.URL.Path == "/.well-known/openid-configuration":
		answer(200, map[string]any{"issuer": i.url, "token_endpoint": i.url + "/token", "revocation_endpoint": i.url + "/revoke"})
	case r.URL.Path == "/revoke":
		i.revoked = append(i.revoked, r.Form.Get("token"))
	case id != "svc" || secret != "p:w":
		i.refused = append(i.refused, r.URL.Path)
		answer(401, map[string]any{"error": "invalid_client"})
	case grant == "refresh_token" && r.Form.Get("refresh_token") != i.refresh:
		i.reused++
		answer(400, map[string]any{"error": "invalid_grant"})
	case grant == "refresh_token":
		i.refresh = fmt.Sprintf("rt-%d", i.n)
		out["refresh_token"] = i.refresh
		answer(200, out)
	case strings.HasSuffix(grant, "token-exchange"):
		i.exchange = append(i.exchange, r.Form.Get("subject_token"))
		answer(200, out)
	default:
		out["scope"] = "read"
		answer(200, out)
	}
}

const oauth2Config = `
tokens:
  service:
    source: {type: oauth2, issuer: "%[1]s", grant: client_credentials, client_id: svc, client_secret: {file: secret}, scopes: [read, write]}
    sinks: [{type: file}]
  exchanged:
    source: {type: oauth2, issuer: "%[1]s", grant: token_exchange, client_id: svc, client_secret: {file: secret}, subject_token: {token: service}}
    sinks: [{type: file}]
  rotating:
    source: {type: oauth2, issuer: "%[1]s", grant: refresh_token, client_id: svc, client_secret: {file: secret}, refresh_token: {file: first}}
    sinks: [{type: file}, {type: file, format: header}]
`

// The source in the agent: a token made of another one of this agent, and a
// refresh token that is good once, over a stop and a start, with its first one
// gone.
func TestE2EOAuth2(t *testing.T) {
	i := &issuer{refresh: "first-rt"}
	srv := httptest.NewServer(i)
	defer srv.Close()
	i.url = srv.URL
	r := newRig(t, fmt.Sprintf(oauth2Config, srv.URL))
	r.write("secret", "p:w\n")
	r.write("first", "first-rt\n")
	r.start()
	service, exchanged := r.waitFile("service"), r.waitFile("exchanged")
	rotating := func() string { return r.waitFile("rotating") }
	if !strings.HasPrefix(service, "client_credentials-") || !strings.HasPrefix(exchanged, "token-exchange-") || r.waitFile("rotating.header") == "" {
		t.Fatalf("got %q and %q", service, exchanged)
	}
	turns := func(n int) {
		t.Helper()
		for range n {
			before := rotating()
			eventually(t, "another token", 20*time.Second, func() bool { return rotating() != before })
		}
	}
	turns(3)
	_ = os.Remove(r.path("first"))
	r.stop()
	r.start()
	turns(2)
	if out, _, code := r.cli("status", "rotating"); code != exitOK {
		t.Errorf("status %d: %s", code, out)
	}
	if out, _, _ := r.cli("status", "service"); !strings.Contains(out, "fewer scopes than asked: without write") {
		t.Errorf("status says nothing of the scope that the server left out: %s", out)
	}
	r.stop()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.reused > 0 || len(i.refused) > 0 {
		t.Errorf("%d refresh tokens came twice; refused at %v", i.reused, i.refused)
	}
	for _, s := range i.exchange {
		if !strings.HasPrefix(s, "client_credentials-") {
			t.Errorf("exchanged %q", s)
		}
	}
	for _, leak := range []string{"p:w", "rt-", "client_credentials-"} {
		if strings.Contains(strings.ReplaceAll(r.log.String(), filepath.Base(r.dir), ""), leak) {
			t.Errorf("the log holds %q", leak)
		}
	}
}
