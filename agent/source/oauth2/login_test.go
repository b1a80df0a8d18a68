package oauth2_test

import (
	"testing"
	"time"

	"renewd/agent"
	"renewd/agent/source/oauth2"
	"renewd/agent/source/spec"
)

// client_credentials: what is sent and what is made of the answer.
func TestClientCredentials(t *testing.T) {
	s := client(oauth2.ClientCredentials)
	s.Scopes, s.Audience, s.Resource = spec.Strings{"read", "write"}, "api", spec.Strings{"https://a.example.com", "https://b.example.com"}
	s.Params = map[string]spec.Strings{"tenant": {"t1"}}
	srv := answers(whole(`"scope":"read write"`))
	src := source(t, s, srv)
	g := login(t, src)
	if g.Token.Reveal() != "at-1" || g.Type != "Bearer" || g.Life != time.Hour-time.Second || g.Note != "" {
		t.Errorf("got %q %q %v %q", g.Token.Reveal(), g.Type, g.Life, g.Note)
	}
	q := srv.last()
	for k, want := range map[string]string{"grant_type": "client_credentials", "scope": "read write", "audience": "api", "tenant": "t1", "client_id": "", "client_secret": ""} {
		if got := q.form.Get(k); got != want {
			t.Errorf("%s is %q; want %q", k, got, want)
		}
	}
	if q.method != "POST" || q.url != tokenURL || len(q.form["resource"]) != 2 || q.basic != "svc:cs-"+hidden {
		t.Errorf("asked %s %s %v %s", q.method, q.url, q.form["resource"], q.basic)
	}
	tr := src.Traits()
	if tr.NeedsPerson || tr.CanRefresh || tr.CanLogout || tr.Hosts[0] != "id.example.com:443" {
		t.Errorf("traits %+v", tr)
	}
	if _, err := call(t, src, agent.StepRefresh, agent.Session{RefreshToken: agent.NewSecret("r")}); err != agent.ErrPassedOver {
		t.Errorf("a refresh: %v; want it passed over", err)
	}
}
