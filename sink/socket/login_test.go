package socket

import (
	"strings"
	"testing"
	"time"

	"renewd/agent"
)

// A login that fails is answered when it has, with what failed and what to do;
// the token of before is not taken for a new one.
func TestALoginThatFails(t *testing.T) {
	src := &source{life: time.Hour}
	w := newWorld(t, nil, spec("x", src))
	w.ready("x")
	down := &agent.Error{Kind: agent.Transient, Step: agent.StepLogin, Detail: "api.test refuses connections", Hint: "is it up?"}
	src.fail.Store(down)
	began := time.Now()
	a := w.do("POST", "/v1/tokens/x/login?wait=5m", "")
	want(t, a, 503)
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, part := range []string{`"kind":"transient"`, "the login failed: transient: api.test refuses connections", `"hint":"is it up?"`, `"valid":true`, "still valid"} {
		if !strings.Contains(a.body, part) {
			t.Errorf("%q is not in %s", part, a.body)
		}
	}
	want(t, w.get("/v1/tokens/x"), 200)
}

// Who asks for a header of a token that goes in the query is told so.
func TestNoHeaderOfAQuery(t *testing.T) {
	w := newWorld(t, nil, spec("q", &source{life: time.Hour, present: &agent.Presentation{Query: "key"}}))
	w.ready("q")
	a := w.get("/v1/tokens/q?format=header")
	want(t, a, 400)
	if !strings.Contains(a.body, "there is no header") || strings.Contains(a.body, "token-1") {
		t.Errorf("it says %s", a.body)
	}
	for format, part := range map[string]string{"curl": `url-query = "+key=token-1-"`, "json": `"query":"key","query_value":"token-1-"`, "env": "Q_QUERY=key=token-1-\n"} {
		a := w.get("/v1/tokens/q?format=" + format)
		want(t, a, 200)
		if !strings.Contains(a.body, part) {
			t.Errorf("%s: %s", format, a.body)
		}
	}
}
