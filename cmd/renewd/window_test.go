package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// kill -9 in the midst of requests, over and over: the host never sees more of
// them than its window allows.
func TestProofKillsDoNotWidenTheWindowOfAHost(t *testing.T) {
	t.Parallel()
	const tokens, most, per, late = 16, 24, 8 * time.Second, 3 * time.Second // late: between the agent's booking and the server's counting
	var mu sync.Mutex
	var seen []time.Time
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		seen = append(seen, time.Now())
		n := len(seen)
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"token": "t-%d", "expires_in": 9}`, n)
	}))
	t.Cleanup(srv.Close)
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(seen)
	}
	host := strings.TrimPrefix(srv.URL, "http://")
	config := fmt.Sprintf("hosts: {%q: {requests: %d/%v}}\ntokens:\n", host, most, per)
	for i := range tokens {
		config += fmt.Sprintf(`  c%d:
    source:
      type: http
      vars: {user: u%d}
      principal: "${user}"
      tls: {plaintext: true}
      login:
        request: {method: POST, url: "%s/login", json: {user: "${user}"}}
        extract: {token: {pointer: /token}, expires_in: {pointer: /expires_in, unit: s}}
      refresh:
        request: {method: POST, url: "%s/refresh", bearer: true}
        extract: {token: {pointer: /token}, expires_in: {pointer: /expires_in, unit: s}}
    renew: {before: 6s}
    sinks: [{type: file}]
`, i, i, srv.URL, srv.URL)
	}
	r := newRig(t, config)
	kills := 0
	r.start()
	for i := range tokens { // a secret must have worked to be tried again after a kill
		r.waitFile(fmt.Sprintf("c%d", i))
	}
	for end := time.Now().Add(proofLength(2 * time.Minute)); kills < 4 || time.Now().Before(end); kills++ {
		r.kill()
		before := count()
		r.start()
		eventually(t, "three more requests", 4*per, func() bool { return count() >= before+3 })
	}
	r.kill()
	t.Logf("%d kills, %d requests", kills, count())
	mu.Lock()
	defer mu.Unlock()
	first := 0
	for i, at := range seen {
		for at.Sub(seen[first]) >= per-late {
			first++
		}
		if n := i - first + 1; n > most {
			t.Fatalf("%d requests within %v, where the window allows %d in %v", n, per-late, most, per)
		}
	}
}
