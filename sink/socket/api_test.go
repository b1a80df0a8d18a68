package socket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"renewd/agent"
	"renewd/platform/ipc"
)

func field(t *testing.T, a answer, name string) any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("%v: %q", err, a.body)
	}
	return m[name]
}

func want(t *testing.T, a answer, status int) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	if status >= 400 {
		if ct := a.head.Get("Content-Type"); ct != "application/problem+json" {
			t.Fatalf("content type %q: %s", ct, a.body)
		}
		for _, f := range []string{"type", "title", "detail"} {
			if s, _ := field(t, a, f).(string); s == "" {
				t.Fatalf("the problem has no %s: %s", f, a.body)
			}
		}
		if (status == 503 || status == 429) != (a.head.Get("Retry-After") != "") {
			t.Fatalf("Retry-After %q with status %d", a.head.Get("Retry-After"), status)
		}
	}
}

func TestATokenInEveryFormat(t *testing.T) {
	w := newWorld(t, nil, spec("x", &source{life: time.Hour}))
	p := w.ready("x")
	token := p.Token.Reveal()
	for format, body := range map[string]string{
		"raw": token, "header": "Authorization: Bearer " + token + "\n", "curl": `header = "Authorization: Bearer ` + token + "\"\n",
	} {
		a := w.get("/v1/tokens/x?format=" + format)
		want(t, a, 200)
		if a.body != body || a.head.Get("ETag") != fmt.Sprintf(`"1.%d-%s"`, p.Revision, format) || a.head.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %q %v", format, a.body, a.head)
		}
	}
	for _, path := range []string{"/v1/tokens/x", "/v1/tokens/x?format=json"} {
		a := w.get(path)
		want(t, a, 200)
		if field(t, a, "token") != token || field(t, a, "generation") != 1.0 {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	if a := w.get("/v1/tokens/x?format=env"); !strings.HasPrefix(a.body, "X_TOKEN="+token+"\n") {
		t.Errorf("env: %q", a.body)
	}
	for _, bad := range []string{"format=netrc", "format=jsn", "min_vaild=3s", "min_valid=soon", "after=-1", "wait=-1s", "wait=1s&wait=2s"} {
		want(t, w.get("/v1/tokens/x?"+bad), 400)
	}
	want(t, w.get("/v1/tokens/nope"), 404)
	want(t, w.get("/v1/nope"), 404)
	want(t, w.do("DELETE", "/v1/tokens/x", ""), 405)
}

func TestETag(t *testing.T) {
	w := newWorld(t, nil, spec("x", &source{life: time.Hour}))
	w.ready("x")
	tag := w.get("/v1/tokens/x").head.Get("ETag")
	for _, h := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
		a := w.get("/v1/tokens/x", "If-None-Match", h)
		if a.status != 304 || a.body != "" || a.head.Get("ETag") != tag {
			t.Errorf("%s: %d %q", h, a.status, a.body)
		}
	}
	for _, h := range []string{`"other"`, strings.Replace(tag, "json", "raw", 1)} {
		want(t, w.get("/v1/tokens/x", "If-None-Match", h), 200)
	}
	tok, _ := w.agent.Token("x")
	_ = tok.Refresh(t.Context(), agent.Caller{ID: "t"})
	want(t, w.get("/v1/tokens/x?after=1&wait=10s"), 200)
	want(t, w.get("/v1/tokens/x", "If-None-Match", tag), 200)
}

// Who may do what: managers all, others what allow gives them, and nobody learns
// which names exist.
func TestAllow(t *testing.T) {
	open := spec("open", &source{life: time.Hour})
	open.Access = &agent.Access{UIDs: []uint32{1001, 65534}, GIDs: []uint32{2001}}
	w := newWorld(t, func(o *Options) { o.Managers.GIDs = []uint32{3001} }, open, spec("shut", &source{life: time.Hour}))
	w.ready("open")
	w.ready("shut")
	who := []struct {
		name    string
		uid     uint32
		groups  []uint32
		allowed bool
		manager bool
	}{
		{"root", 0, nil, true, true},
		{"a member of the socket's group", 1500, []uint32{100, 3001}, true, true},
		{"an allowed user", 1001, []uint32{1001}, true, false},
		{"a member of an allowed group", 1002, []uint32{5, 2001}, true, false},
		{"someone else", 1003, []uint32{1003}, false, false},
		{"uid 65534", 65534, []uint32{2001, 3001}, false, false},
	}
	for _, p := range who {
		w.as(p.uid, p.groups...)
		t.Run(p.name, func(t *testing.T) {
			status := func(yes bool, ok int) int {
				if yes {
					return ok
				}
				return 403
			}
			want(t, w.get("/v1/tokens/open"), status(p.allowed, 200))
			want(t, w.get("/v1/tokens/open?format=raw"), status(p.allowed, 200))
			want(t, w.get("/v1/tokens/shut"), status(p.manager, 200))
			want(t, w.do("POST", "/v1/tokens/open/rejected", `{"generation":0}`), status(p.allowed, 200))
			want(t, w.do("POST", "/v1/tokens/shut/rejected", `{"generation":0}`), status(p.manager, 200))
			want(t, w.get("/v1/health?name=open"), status(p.allowed, 200))
			want(t, w.get("/v1/health"), 200)
			missing, nowhere := w.get("/v1/tokens/missing"), w.get("/v1/nowhere")
			if p.manager {
				want(t, missing, 404)
				want(t, nowhere, 404)
			} else {
				want(t, missing, 403)
				for _, other := range []answer{nowhere, w.get("/v1/tokens/shut"), w.get("/v1/health?name=shut"), w.get("/v1/health?name=missing"),
					w.get("/v1/tokens?name=shut"), w.get("/v1/events?name=missing"), w.do("POST", "/v1/tokens/open/refresh", ""),
					w.do("POST", "/v1/tokens/missing/refresh", ""), w.do("POST", "/v1/tokens/open/login", ""),
					w.do("POST", "/v1/tokens/open/logout", ""), w.do("POST", "/v1/reload", "")} {
					if other.status != 403 || other.body != missing.body {
						t.Errorf("an answer that tells something: %d %s", other.status, other.body)
					}
				}
			}
			list := w.get("/v1/tokens")
			want(t, list, 200)
			if strings.Contains(list.body, `"open"`) != p.allowed || strings.Contains(list.body, `"shut"`) != p.manager || strings.Contains(list.body, "token-") {
				t.Errorf("list: %s", list.body)
			}
			metrics := w.get("/metrics").body
			if strings.Contains(metrics, `name="open"`) != p.allowed || strings.Contains(metrics, `name="shut"`) != p.manager {
				t.Errorf("metrics: %s", metrics)
			}
		})
	}
	w.peer.Store(nil)
	want(t, w.get("/v1/tokens/shut"), 200) // the agent's own user
	w.peer.Store(&ipc.Peer{})
	want(t, w.get("/v1/tokens/open"), 403)
}

func TestWhatNeedsARenewalStartsIt(t *testing.T) {
	gate := make(chan struct{}, 10)
	s := &source{life: time.Minute, gate: gate}
	w := newWorld(t, nil, spec("x", s))
	a := w.get("/v1/tokens/x")
	want(t, a, 503)
	if field(t, a, "state") != "pending" {
		t.Errorf("%s", a.body)
	}
	gate <- struct{}{}
	want(t, w.get("/v1/tokens/x?wait=10s"), 200)

	// More life than is left: renewed first; more than there ever is: 409.
	w.clock.by.Store(int64(20 * time.Second))
	gate <- struct{}{}
	a = w.get("/v1/tokens/x?min_valid=50s&wait=10s")
	want(t, a, 200)
	if field(t, a, "generation") != 2.0 {
		t.Errorf("%s", a.body)
	}
	want(t, w.get("/v1/tokens/x?min_valid=2m&wait=10s"), 409)
	close(gate)
}

func TestLongPoll(t *testing.T) {
	w := newWorld(t, nil, spec("x", &source{life: time.Hour}))
	w.ready("x")
	want(t, w.get("/v1/tokens/x?after=0"), 200)
	if a := w.get("/v1/tokens/x?after=1"); a.status != 304 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	began := time.Now()
	if a := w.get("/v1/tokens/x?after=1&wait=300ms"); a.status != 304 || time.Since(began) < 300*time.Millisecond {
		t.Fatalf("%d after %v", a.status, time.Since(began))
	}
	got := make(chan answer)
	go func() { got <- w.get("/v1/tokens/x?after=1&wait=60s") }()
	tok, _ := w.agent.Token("x")
	time.Sleep(50 * time.Millisecond) // most likely it waits by now; either way it must answer
	_ = tok.Refresh(t.Context(), agent.Caller{ID: "t"})
	if a := <-got; a.status != 200 || field(t, a, "generation") != 2.0 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	// A generation from before the state was lost.
	a := w.get("/v1/tokens/x?after=99&wait=60s")
	want(t, a, 200)
	if field(t, a, "state_reset") != true || field(t, a, "generation") != 2.0 || a.head.Get("Renewd-State-Reset") != "true" {
		t.Fatalf("%s %v", a.body, a.head)
	}
}

// While nothing can come a long poll of a token that is still good waits, so that
// its caller does not ask in a loop.
func TestALongPollOfAHeldTokenWaits(t *testing.T) {
	s := &source{life: time.Hour}
	w := newWorld(t, nil, spec("x", s))
	w.ready("x")
	s.fail.Store(&agent.Error{Kind: agent.NeedsHuman, Step: agent.StepLogin, Detail: "a code is needed"})
	tok, _ := w.agent.Token("x")
	_ = tok.Refresh(t.Context(), agent.Caller{ID: "t"})
	for end := time.Now().Add(10 * time.Second); tok.Status().State != agent.StateNeedsHuman; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v", tok.Status())
		}
	}
	began := time.Now()
	if a := w.get("/v1/tokens/x?after=1&wait=300ms"); a.status != 304 || time.Since(began) < 300*time.Millisecond {
		t.Fatalf("%d after %v: %s", a.status, time.Since(began), a.body)
	}
	a := w.do("POST", "/v1/tokens/x/refresh?wait=5s", "")
	want(t, a, 503)
	if field(t, a, "kind") != "needs_human" || !strings.Contains(a.body, "a code is needed") {
		t.Fatalf("%s", a.body)
	}
}

func TestRejectedNeverAnswersWithTheRefusedOne(t *testing.T) {
	gate := make(chan struct{}, 10)
	w := newWorld(t, nil, spec("x", &source{life: time.Hour, gate: gate}))
	gate <- struct{}{}
	w.ready("x")
	want(t, w.do("POST", "/v1/tokens/x/rejected?wait=200ms", `{"generation":1}`), 503)
	want(t, w.get("/v1/tokens/x"), 200) // the value stays
	gate <- struct{}{}
	a := w.do("POST", "/v1/tokens/x/rejected", `{"generation":1}`)
	want(t, a, 200)
	if field(t, a, "generation") != 2.0 {
		t.Fatalf("%s", a.body)
	}
	a = w.do("POST", "/v1/tokens/x/rejected", `{"generation":1}`) // long since replaced
	want(t, a, 200)
	a = w.do("POST", "/v1/tokens/x/rejected", `{"generation":77}`)
	want(t, a, 200)
	if field(t, a, "state_reset") != true {
		t.Fatalf("%s", a.body)
	}
	for _, bad := range []string{"", "{}", `{"generation":-1}`, `{"generation":"1"}`, `{"generation":1} x`, `{"generation":1,"x":2}`, `[`} {
		want(t, w.do("POST", "/v1/tokens/x/rejected", bad), 400)
	}
}

func TestACallerThatAsksTooOftenIsPutOff(t *testing.T) {
	w := newWorld(t, nil, spec("x", &source{life: time.Hour}))
	w.ready("x")
	tok, _ := w.agent.Token("x")
	for range 10 { // a renewal under way is joined and costs nothing
		if a := w.do("POST", "/v1/tokens/x/refresh?wait=0s", ""); a.status == 429 {
			want(t, a, 429)
			return
		}
		for tok.Status().Renewing {
			time.Sleep(time.Millisecond)
		}
	}
	t.Fatal("ten renewals at once were granted")
}

func TestReload(t *testing.T) {
	var result error
	var again bool
	w := newWorld(t, func(o *Options) { o.Reload = func(context.Context) (bool, error) { return again, result } })
	for _, body := range []string{`{"ok":true}`, `{"ok":true,"starts_again":true}`} {
		a := w.do("POST", "/v1/reload", "")
		want(t, a, 200)
		if a.body != body+"\n" {
			t.Errorf("%s, want %s", a.body, body)
		}
		again = true
	}
	result = errors.Join(errors.New("f:1:2: one"), errors.New("f:3:4: two"))
	a := w.do("POST", "/v1/reload", "")
	want(t, a, 409)
	if got := fmt.Sprint(field(t, a, "errors")); got != "[f:1:2: one f:3:4: two]" {
		t.Fatal(got)
	}
}

func TestLogoutTakesTheTokenAway(t *testing.T) {
	w := newWorld(t, nil, spec("x", &source{life: time.Hour}))
	w.ready("x")
	want(t, w.do("POST", "/v1/tokens/x/logout", ""), 200)
	want(t, w.get("/v1/tokens/x"), 503)
	a := w.do("POST", "/v1/tokens/x/login?wait=10s", "")
	want(t, a, 200)
	if strings.Contains(a.body, "token-") {
		t.Fatal("login answers with the value")
	}
	want(t, w.get("/v1/tokens/x"), 200)
}

func TestHealthNamesWhoIsIll(t *testing.T) {
	bad := &source{life: time.Hour}
	bad.fail.Store(&agent.Error{Kind: agent.Misconfigured, Step: agent.StepLogin, Detail: "server answered 404"})
	w := newWorld(t, nil, spec("good", &source{life: time.Hour}), spec("bad", bad))
	w.ready("good")
	want(t, w.get("/v1/health?name=good"), 200)
	tok, _ := w.agent.Token("bad")
	for len(tok.Status().Problems) == 0 {
		time.Sleep(time.Millisecond)
	}
	a := w.get("/v1/health")
	want(t, a, 503)
	if !strings.Contains(a.body, `"bad"`) || strings.Contains(a.body, `"good"`) || !strings.Contains(a.body, "server answered 404") {
		t.Fatalf("%d %s", a.status, a.body)
	}

	// On TCP there are no names.
	tcp := httptest.NewServer(w.server.MetricsHandler())
	defer tcp.Close()
	for path, wanted := range map[string]int{"/healthz": 503, "/metrics": 200, "/v1/tokens": 404, "/v1/tokens/good": 404} {
		resp, err := http.Get(tcp.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != wanted || path == "/healthz" && strings.Contains(string(body), "bad") {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}

func TestAnExpiredTokenIsNotGiven(t *testing.T) {
	gate := make(chan struct{}, 1)
	w := newWorld(t, nil, spec("x", &source{life: time.Minute, gate: gate}))
	gate <- struct{}{}
	w.ready("x")
	c := w.dial()
	plain := "GET /v1/tokens/x HTTP/1.1\r\nHost: renewd\r\n\r\n"
	if a := raw(t, c, plain); a.status != 200 {
		t.Fatalf("%d", a.status)
	}
	w.clock.by.Store(int64(time.Minute))
	if a := raw(t, c, plain); a.status != 503 {
		t.Errorf("an expired token: %d %s", a.status, a.body)
	}
	close(gate) // the renewal that waits for it
}

func TestAuditSaysWhoRead(t *testing.T) {
	w := newWorld(t, nil, spec("x", &source{life: time.Hour}))
	w.ready("x")
	want(t, w.get("/v1/tokens/x"), 200)
	if strings.Contains(w.log.String(), "token read") {
		t.Fatal("a line without audit")
	}
	w.server.Audit(true)
	w.as(0)
	want(t, w.get("/v1/tokens/x"), 200)
	want(t, w.get("/v1/tokens/x?format=raw"), 200)
	if log := w.log.String(); strings.Count(log, `msg="token read" peer="uid 0" pid=4711 token=x generation=1`) != 2 || strings.Contains(log, "token-1-") {
		t.Fatal(log)
	}
}
