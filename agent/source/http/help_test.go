package http_test

import (
	"errors"
	"io"
	nethttp "net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"renewd/agent"
	"renewd/agent/config"
	"renewd/agent/secret"
	"renewd/agent/source/http"
	"renewd/agent/source/spec"
	"renewd/agent/source/wire"
)

// clock is the wall clock with a boot clock beside it; both are a bubble's.
func clock() agent.Instant {
	n := time.Now()
	return agent.Instant{Wall: n, Boot: time.Duration(n.UnixNano())}
}

func decode(t testing.TB, yaml string) *http.Spec {
	t.Helper()
	p, problems := config.DecodePreset("test", "test.yaml", []byte("language: 1\n"+yaml))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return p.Spec
}

func preset(t testing.TB, name string) *http.Spec {
	t.Helper()
	data, ok := http.Preset(name)
	if !ok {
		t.Fatalf("there is no preset %q", name)
	}
	p, problems := config.DecodePreset(name, name+".yaml", data)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return p.Spec
}

func compile(t testing.TB, name string, s *http.Spec) *http.Program {
	t.Helper()
	p, problems := http.Compile(name, s)
	if p == nil || len(problems) > 0 {
		t.Fatal(problems)
	}
	return p
}

type values = map[string]any

// bind binds values; a string stands for itself.
func bind(t testing.TB, p *http.Program, rt nethttp.RoundTripper, in values, over *http.Overrides) *http.Source {
	t.Helper()
	src, problems := tryBind(p, rt, in, over)
	if src == nil {
		t.Fatal(problems)
	}
	return src
}

func tryBind(p *http.Program, rt nethttp.RoundTripper, in values, over *http.Overrides) (*http.Source, []http.Problem) {
	vals := map[string]spec.Value{}
	for k, v := range in {
		vals[k] = spec.Value{V: v}
	}
	return p.Bind(vals, over, &http.Env{Now: clock, Secrets: secret.NewResolver(),
		Transports: wire.NewTransports(wire.Options{RoundTrip: rt, Clock: clock})})
}

// call makes one step.
func call(t testing.TB, src agent.Source, step agent.Step, s agent.Session) (*agent.Grant, error) {
	t.Helper()
	at, err := src.Prepare(t.Context(), step, s)
	if err != nil {
		return nil, err
	}
	return at.Send(t.Context())
}

func mustLogin(t testing.TB, src agent.Source) *agent.Grant {
	t.Helper()
	g, err := call(t, src, agent.StepLogin, agent.Session{})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func sessionOf(g *agent.Grant) agent.Session {
	return agent.Session{Token: g.Token, RefreshToken: g.RefreshToken, Extra: g.Extra, Valid: true, Seed: g.Seed}
}

// wantKind checks an error's kind and that nothing a server or an admin said in
// secret is in it.
func wantKind(t testing.TB, err error, k agent.Kind) *agent.Error {
	t.Helper()
	e, ok := errors.AsType[*agent.Error](err)
	if !ok {
		t.Fatalf("got %v; want %s", err, k)
	}
	if e.Kind != k {
		t.Fatalf("got %v; want %s", e, k)
	}
	if strings.Contains(e.Error()+e.Hint, "hunter2") {
		t.Fatalf("the error quotes a secret: %v (%s)", e, e.Hint)
	}
	return e
}

// script answers from a list and keeps what it was asked.
type script struct {
	mu      sync.Mutex
	answers []answer
	asked   []asked
}

type answer struct {
	status int
	header map[string]string
	body   string
}

type asked struct {
	method, url, body string
	header            nethttp.Header
	host              string
}

func (s *script) RoundTrip(r *nethttp.Request) (*nethttp.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	s.asked = append(s.asked, asked{r.Method, r.URL.String(), string(body), r.Header, r.Host})
	a := answer{status: 200, body: `{"token":"t"}`}
	if len(s.answers) > 0 {
		a = s.answers[0]
		if len(s.answers) > 1 {
			s.answers = s.answers[1:]
		}
	}
	h := nethttp.Header{}
	for k, v := range a.header {
		h.Add(k, v)
	}
	return &nethttp.Response{StatusCode: a.status, Header: h, Body: io.NopCloser(strings.NewReader(a.body))}, nil
}

func (s *script) last() asked { return s.asked[len(s.asked)-1] }

// only is a source of one login that answers as said.
func only(t testing.TB, yaml string, in values, answers ...answer) (*http.Source, *script) {
	t.Helper()
	s := &script{answers: answers}
	return bind(t, compile(t, "http", decode(t, yaml)), s, in, nil), s
}

func ref(path string) secret.Ref { return secret.Ref{File: secret.Path(path)} }
