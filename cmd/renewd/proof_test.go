package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"renewd/agent/source/standin"
)

// commanderRig starts a Commander stand-in over TLS with a certificate of its
// own, and writes the config of an agent on it.
func commanderRig(t *testing.T, o standin.CommanderOptions) (*rig, *standin.Commander, *standin.Server) {
	t.Helper()
	o.Username, o.Password = "svc", "pa\"ss\\word"
	api := standin.NewCommander(o)
	srv, err := standin.Serve(api, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	r := newRig(t, fmt.Sprintf(`
log: {audit: true}
metrics: {listen: "127.0.0.1:0"}
tokens:
  c:
    source:
      type: commander
      url: %s/rest/v3
      username: svc
      password: {file: password}
      lifetime: {max: %v}
      session: {max_age: %v}
      tls: {ca_file: ca.pem}
    sinks:
      - {type: file}
      - {type: file, format: json}
    allow: {users: [nobody]}
`, srv.URL, api.Access(), api.Session()))
	r.write("password", o.Password+"\n")
	r.write("ca.pem", string(srv.CAPEM))
	return r, api, srv
}

// reader is a script that re-reads the token's file and calls the API with it,
// 200 times a second.
type reader struct {
	reads, accepted, refused, torn, stalls int
	worstStall                             time.Duration
	first                                  string // the first refusal, in words
}

func read200(t *testing.T, r *rig, srv *standin.Server, lead time.Duration, stop <-chan struct{}) *reader {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(srv.CAPEM)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 16}}
	defer client.CloseIdleConnections()
	res := &reader{}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-stop:
			return res
		case <-tick.C:
		}
		read := time.Now()
		if d := read.Sub(last); d > 100*time.Millisecond {
			res.stalls++
			res.worstStall = max(res.worstStall, d)
		}
		last = read
		b, err := os.ReadFile(r.token("c"))
		if err != nil {
			t.Errorf("the file was missing: %v", err)
			return res
		}
		res.reads++
		token := string(b)
		if strings.Count(token, ".") != 2 || strings.ContainsAny(token, "\n ") {
			res.torn++
			continue
		}
		req, _ := http.NewRequest(http.MethodGet, srv.URL+"/rest/v3/organizations", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(req)
		if err != nil {
			continue // the network, not the token
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode < 300 {
			res.accepted++
		}
		// A reader that slept between reading and calling has itself to blame.
		if resp.StatusCode == http.StatusUnauthorized && time.Since(read) < lead/3 {
			res.refused++
			if res.first == "" {
				res.first = fmt.Sprintf("at %s, %v after the read", read.Format("15:04:05.000"), time.Since(read))
			}
		}
	}
}

// during runs the reader beside what happens meanwhile.
func during(t *testing.T, r *rig, srv *standin.Server, lead time.Duration, meanwhile func()) *reader {
	stop, done := make(chan struct{}), make(chan *reader, 1)
	go func() { done <- read200(t, r, srv, lead, stop) }()
	meanwhile()
	close(stop)
	res := <-done
	t.Logf("%d reads, %d refused, %d torn, %d stalls (worst %v)", res.reads, res.refused, res.torn, res.stalls, res.worstStall.Round(time.Millisecond))
	if res.refused > 0 || res.torn > 0 {
		t.Errorf("%d calls were refused (first %s), %d reads were torn", res.refused, res.first, res.torn)
	}
	if res.reads < 100 || res.accepted < res.reads*9/10 {
		t.Errorf("%d reads and %d calls that were accepted: this proves nothing", res.reads, res.accepted)
	}
	return res
}

func loginsAllowed(api *standin.Commander, since time.Time) int {
	return int(time.Since(since)/api.Session()) + 2 // each hard limit passed, the one under way, and one
}

// Commander's clocks twenty times faster: 3 s and 45 s.
func TestProofReaderIsNeverRefused(t *testing.T) {
	t.Parallel()
	r, api, srv := commanderRig(t, standin.CommanderOptions{SpeedUp: 20, FlooredExp: true})
	began := time.Now()
	r.start()
	r.waitFile("c")
	during(t, r, srv, time.Second, func() { time.Sleep(proofLength(5 * time.Minute)) })
	if n := api.Counts(); n.Logins > loginsAllowed(api, began) {
		t.Errorf("%d logins in %v with a hard limit of %v", n.Logins, time.Since(began).Round(time.Second), api.Session())
	}
	r.stop()
}

func TestProofReaderIsNeverRefusedThroughKills(t *testing.T) {
	t.Parallel()
	r, api, srv := commanderRig(t, standin.CommanderOptions{Access: 8 * time.Second, Session: 2 * time.Minute, FlooredExp: true})
	began := time.Now()
	r.start()
	r.waitFile("c")
	kills := 0
	during(t, r, srv, 4*time.Second, func() {
		for end := time.Now().Add(proofLength(5 * time.Minute)); time.Now().Before(end); kills++ {
			time.Sleep(2 * time.Second)
			r.kill()
			r.start()
		}
	})
	n := api.Counts()
	t.Logf("%d kills, %d logins, %d refreshes", kills, n.Logins, n.Refreshes)
	if n.Logins > loginsAllowed(api, began) {
		t.Errorf("%d logins in %v with a hard limit of %v and %d kills", n.Logins, time.Since(began).Round(time.Second), api.Session(), kills)
	}
	r.stop()
}

// Each fault for 2 s, at any moment of the token's life.
func TestProofReaderIsNeverRefusedThroughFaults(t *testing.T) {
	t.Parallel()
	faults := standin.Faults()
	rounds := 1
	switch os.Getenv("RENEWD_PROOF") {
	case "full":
		rounds = 3
	case "":
		faults = []standin.Fault{standin.Status500, standin.Hang}
	}
	r, api, srv := commanderRig(t, standin.CommanderOptions{Access: 8 * time.Second, Session: 2 * time.Minute, FlooredExp: true})
	r.start()
	r.waitFile("c")
	during(t, r, srv, 4*time.Second, func() {
		for range rounds {
			for _, f := range faults {
				before := api.Counts()
				api.Fail(f, -1)
				time.Sleep(2 * time.Second)
				api.Fail(standin.None, 0)
				// Until it has recovered and renewed once more.
				eventually(t, fmt.Sprintf("a renewal after %q", f), 30*time.Second, func() bool {
					n := api.Counts()
					return n.Refreshes+n.Logins > before.Refreshes+before.Logins
				})
			}
		}
	})
	t.Logf("%+v", api.Counts())
	r.stop()
}

// A wrong password, kill -9 and a restart each second, two tokens on the account,
// and a manager who refreshes in a loop: the account is never locked.
func TestProofWrongPasswordNeverLocksTheAccount(t *testing.T) {
	t.Parallel()
	r, api, _ := commanderRig(t, standin.CommanderOptions{LockAfter: 3})
	r.write("password", "wrong\n")
	config, err := os.ReadFile(r.path("renewd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(config)
	second := strings.Replace(text[strings.Index(text, "  c:"):], "  c:", "  d:", 1)
	r.write("renewd.yaml", text+second)
	stop := make(chan struct{})
	var loop sync.WaitGroup
	loop.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
				r.cli("refresh", "c")
				r.cli("refresh", "d")
			}
		}
	})
	restarts := 0
	r.start()
	for end := time.Now().Add(proofLength(10 * time.Minute)); time.Now().Before(end); restarts++ {
		time.Sleep(time.Second)
		r.kill()
		r.start()
	}
	close(stop)
	loop.Wait()
	n := api.Counts()
	t.Logf("%d restarts, %d logins tried", restarts, n.Tries)
	if n.Tries > 2 {
		t.Errorf("%d logins with a wrong password", n.Tries)
	}
	if n.Tries == 0 {
		t.Error("the password was never tried: this proves nothing")
	}
}
