package oauth2_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/oauth2"
	"renewd/agent/source/wire"
)

// hidden is in every secret and in every text that a server sends: it must
// never be seen in an error.
const hidden = "hunter2"

// clock is the wall clock with a boot clock beside it; both are a bubble's.
func clock() agent.Instant {
	n := time.Now()
	return agent.Instant{Wall: n, Boot: time.Duration(n.UnixNano())}
}

// server answers what it is asked, in the process.
type server struct {
	mu    sync.Mutex
	asked []asked
	// serve is called for every request; what it gives is the answer.
	serve func(r asked) answer
}

type asked struct {
	method, url string
	form        url.Values
	header      nethttp.Header
	basic       string
}

type answer struct {
	status int
	header map[string]string
	body   string
}

func (s *server) RoundTrip(r *nethttp.Request) (*nethttp.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	q := asked{method: r.Method, url: r.URL.String(), header: r.Header}
	if r.Body != nil {
		b, _ := io.ReadAll(r.Body)
		q.form, _ = url.ParseQuery(string(b))
	}
	if user, pass, ok := r.BasicAuth(); ok {
		q.basic = user + ":" + pass
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, q)
	a := s.serve(q)
	if a.status == -1 {
		return nil, io.ErrUnexpectedEOF
	}
	h := nethttp.Header{"Content-Type": {"application/json"}}
	for k, v := range a.header {
		h.Set(k, v)
	}
	return &nethttp.Response{StatusCode: a.status, Header: h, Body: io.NopCloser(strings.NewReader(a.body)), ContentLength: int64(len(a.body))}, nil
}

func (s *server) last() asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[len(s.asked)-1]
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// answers serves a list, the last of it for ever.
func answers(as ...answer) *server {
	n := 0
	return &server{serve: func(asked) answer {
		a := as[min(n, len(as)-1)]
		n++
		return a
	}}
}

func ok(body string) answer { return answer{200, nil, body} }

// whole is what every success holds.
func whole(more string) answer {
	if more != "" {
		more = "," + more
	}
	return ok(`{"access_token":"at-1","token_type":"bearer","expires_in":3600` + more + `}`)
}

// fail is an error of OAuth, told as servers tell it.
func fail(status int, code string) answer {
	b, _ := json.Marshal(map[string]string{"error": code, "error_description": "no, " + hidden})
	return answer{status, nil, string(b)}
}

const tokenURL = "https://id.example.com/token"

func client(grant string) *oauth2.Spec {
	s := &oauth2.Spec{TokenURL: tokenURL, Grant: grant, ClientID: "svc", ClientSecret: plain("cs-" + hidden)}
	return s
}

func plain(s string) *secret.Ref {
	r := secret.Plain(s)
	return &r
}

func env(rt nethttp.RoundTripper) *oauth2.Env {
	return &oauth2.Env{Name: "t", Now: clock, Secrets: secret.NewResolver(), Transports: wire.NewTransports(wire.Options{RoundTrip: rt, Clock: clock})}
}

func source(t testing.TB, s *oauth2.Spec, rt nethttp.RoundTripper) agent.Source {
	t.Helper()
	src, problems := oauth2.New(s, env(rt))
	if src == nil {
		t.Fatal(problems)
	}
	return src
}

// problems are what is wrong with a Spec, one a line.
func problems(s *oauth2.Spec) string {
	_, ps := oauth2.New(s, env(answers(whole(""))))
	var out []string
	for _, p := range ps {
		out = append(out, p.String())
	}
	return strings.Join(out, "\n")
}

func call(t testing.TB, src agent.Source, step agent.Step, s agent.Session) (*agent.Grant, error) {
	t.Helper()
	at, err := src.Prepare(t.Context(), step, s)
	if err != nil {
		return nil, err
	}
	return at.Send(t.Context())
}

func login(t testing.TB, src agent.Source) *agent.Grant {
	t.Helper()
	g, err := call(t, src, agent.StepLogin, agent.Session{})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// next is the session that a grant leads to, as the agent merges it.
func next(s agent.Session, step agent.Step, g *agent.Grant) agent.Session {
	if step == agent.StepLogin {
		s = agent.Session{}
	}
	take := func(dst *agent.Secret, v agent.Secret) {
		if !v.IsZero() {
			*dst = v
		}
	}
	take(&s.Token, g.Token)
	take(&s.RefreshToken, g.RefreshToken)
	take(&s.Private, g.Private)
	if g.Seed != "" {
		s.Seed = g.Seed
	}
	s.Valid = true
	return s
}

// wantKind checks an error's kind and a part of what it says, and that nothing
// is in it that a server said or an admin hides.
func wantKind(t testing.TB, err error, k agent.Kind, parts ...string) *agent.Error {
	t.Helper()
	e, ok := errors.AsType[*agent.Error](err)
	if !ok {
		t.Fatalf("got %v; want %s", err, k)
	}
	if e.Kind != k {
		t.Fatalf("got %v (%s); want %s", e, e.Hint, k)
	}
	text := e.Error() + "; " + e.Hint
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("got %q; want %q in it", text, p)
		}
	}
	if strings.Contains(text+fmt.Sprintf("%+v", err), hidden) {
		t.Fatalf("the error tells a secret: %s", text)
	}
	return e
}
