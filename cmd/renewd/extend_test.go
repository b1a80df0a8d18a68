package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// leases is a Vault with short leases: a token is renewed until its max TTL.
type leases struct {
	mu                     sync.Mutex
	until, born            map[string]time.Time
	lease, max             time.Duration
	logins, renews, revoke int
}

func (l *leases) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	token := r.Header.Get("X-Vault-Token")
	answer := func(token string) {
		now := time.Now()
		// Leases are whole seconds, and never beyond the max TTL.
		life := min(l.lease, l.born[token].Add(l.max).Sub(now)).Truncate(time.Second)
		l.until[token] = now.Add(life)
		_ = json.NewEncoder(w).Encode(map[string]any{"auth": map[string]any{"client_token": token, "lease_duration": int(life.Seconds()), "renewable": true}})
	}
	switch r.URL.Path {
	case "/v1/auth/approle/login":
		l.logins++
		token = fmt.Sprintf("hvs.%d", l.logins)
		l.born[token] = time.Now()
		answer(token)
	case "/v1/auth/token/renew-self":
		if !time.Now().Before(l.until[token]) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		l.renews++
		answer(token)
	case "/v1/auth/token/revoke-self":
		l.revoke++
		delete(l.until, token)
		w.WriteHeader(http.StatusNoContent)
	}
}

// A token whose lease is extended is replaced before its max TTL, whether that is
// told in the config or only felt, and no reader ever finds a dead one.
func TestE2ELeases(t *testing.T) {
	t.Parallel() // it waits
	for name, more := range map[string]string{"told": ", session: {max_age: 10s}", "felt": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &leases{until: map[string]time.Time{}, born: map[string]time.Time{}, lease: 5 * time.Second, max: 10 * time.Second}
			srv := httptest.NewServer(l)
			t.Cleanup(srv.Close)
			r := newRig(t, fmt.Sprintf("tokens: {v: {source: {type: vault-approle, url: %q, role_id: r, secret_id: {file: password}%s}, sinks: [{type: file}]}}\n", srv.URL, more))
			r.write("password", "s\n")
			r.start()
			r.waitFile("v")
			// A login every seven seconds is within the ten a minute of an account.
			consume(t, r, "v", max(16*time.Second, proofLength(time.Minute)), func(token string) (bool, string) {
				l.mu.Lock()
				defer l.mu.Unlock()
				return time.Now().Before(l.until[token]), fmt.Sprintf("%d logins, %d renewals, %d revoked", l.logins, l.renews, l.revoke)
			})
			r.stop()
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Logf("%d logins, %d renewals, %d revoked", l.logins, l.renews, l.revoke)
			if l.logins < 2 || l.renews < 2 || l.revoke < 1 {
				t.Errorf("%d logins, %d renewals, %d revoked", l.logins, l.renews, l.revoke)
			}
		})
	}
}
