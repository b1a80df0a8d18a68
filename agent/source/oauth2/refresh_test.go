package oauth2_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/oauth2"
	"renewd/agent/source/spec"
)

func password() *oauth2.Spec {
	s := client(oauth2.Password)
	s.Username, s.Password = "bob", plain("pw-"+hidden)
	return s
}

// spends says whether a refresh of a session is said to spend its token.
func spends(t *testing.T, src agent.Source, s agent.Session) bool {
	t.Helper()
	at, err := src.Prepare(t.Context(), agent.StepRefresh, s)
	if err != nil {
		t.Fatal(err)
	}
	return at.Spends
}

// A refresh sends the refresh token alone; a new one that comes back is kept, and
// from then on a refresh is known to spend it, restarts or not.
func TestRefreshRotates(t *testing.T) {
	s := password()
	s.Scopes, s.Audience, s.Params = spec.Strings{"read"}, "api", map[string]spec.Strings{"x": {"y"}}
	srv := answers(whole(`"refresh_token":"rt-1"`), whole(`"refresh_token":"rt-1"`), whole(`"refresh_token":"rt-2"`), whole(`"refresh_token":""`), whole(""))
	src := source(t, s, srv)
	session := next(agent.Session{}, agent.StepLogin, login(t, src))
	step := func(want string, spent bool) {
		t.Helper()
		if got := spends(t, src, session); got != spent {
			t.Errorf("spends is %v before %s", got, want)
		}
		g, err := call(t, src, agent.StepRefresh, session)
		if err != nil {
			t.Fatal(err)
		}
		if session = next(session, agent.StepRefresh, g); session.RefreshToken.Reveal() != want {
			t.Errorf("refresh token %q; want %q", session.RefreshToken.Reveal(), want)
		}
	}
	step("rt-1", false) // the same one came back
	if q := srv.last(); len(q.form) != 2 || q.form.Get("grant_type") != "refresh_token" || q.form.Get("refresh_token") != "rt-1" {
		t.Errorf("sent %v", q.form)
	}
	step("rt-2", false)
	step("rt-2", true) // an empty one is none
	src = source(t, s, answers(whole("")))
	step("rt-2", true)
	if g := login(t, src); !next(session, agent.StepLogin, g).RefreshToken.IsZero() {
		t.Error("a login kept the refresh token of the session before")
	}
}

func TestRotatesIsDeclared(t *testing.T) {
	yes, no := true, false
	s := password()
	s.Session = &spec.Session{Rotates: &yes, ReuseSafe: &yes, Overlap: "none"}
	src := source(t, s, answers(whole("")))
	if tr := src.Traits(); !tr.Rotates || !tr.ReuseSafe || !tr.OverlapNone || !spends(t, src, agent.Session{RefreshToken: agent.NewSecret("r")}) {
		t.Errorf("traits %+v", tr)
	}
	s.Session = &spec.Session{Rotates: &no}
	src = source(t, s, answers(whole(`"refresh_token":"r2"`)))
	session := agent.Session{RefreshToken: agent.NewSecret("r")}
	if _, err := call(t, src, agent.StepRefresh, session); err != nil {
		t.Fatal(err)
	}
	if spends(t, src, session) {
		t.Error("rotates: false is not believed")
	}
}

func TestScopesAreRepeated(t *testing.T) {
	s := password()
	s.Scopes, s.RepeatScope, s.Resource = spec.Strings{"a", "b"}, true, spec.Strings{"https://r.example.com"}
	srv := answers(whole(""))
	if _, err := call(t, source(t, s, srv), agent.StepRefresh, agent.Session{RefreshToken: agent.NewSecret("r")}); err != nil {
		t.Fatal(err)
	}
	if f := srv.last().form; f.Get("scope") != "a b" || f.Get("resource") != "https://r.example.com" {
		t.Errorf("sent %v", f)
	}
}

// What spends a refresh token and got no whole answer is ambiguous; an answer
// that is whole, and a request that never left, are not.
func TestAmbiguous(t *testing.T) {
	yes := true
	s := password()
	s.Session = &spec.Session{Rotates: &yes}
	session := agent.Session{RefreshToken: agent.NewSecret("r")}
	_, err := call(t, source(t, s, answers(answer{status: -1})), agent.StepRefresh, session)
	wantKind(t, err, agent.Ambiguous)
	_, err = call(t, source(t, s, answers(answer{502, nil, ""})), agent.StepRefresh, session)
	wantKind(t, err, agent.Transient)
	_, err = call(t, source(t, password(), answers(answer{status: -1})), agent.StepRefresh, session)
	wantKind(t, err, agent.Transient)

	s = password()
	s.TokenURL, s.Issuer, s.Session = "", "https://id.example.com", &spec.Session{Rotates: &yes}
	_, err = call(t, source(t, s, answers(answer{status: -1})), agent.StepRefresh, session)
	if e := wantKind(t, err, agent.Transient, "discovery"); !e.Unsent {
		t.Error("a failed discovery spent something")
	}
}

// A refresh token that came is kept, though the access token beside it is of no
// use: the one before may be dead by now.
func TestRefreshTokenIsNotLost(t *testing.T) {
	for _, body := range []string{`{"access_token":"at","expires_in":0,"refresh_token":"rt-2"}`, `{"refresh_token":"rt-2"}`, `{"access_token":"a b","expires_in":60,"refresh_token":"rt-2"}`} {
		src := source(t, password(), answers(ok(body)))
		g, err := call(t, src, agent.StepRefresh, agent.Session{RefreshToken: agent.NewSecret("rt-1")})
		if err != nil || g.RefreshToken.Reveal() != "rt-2" || !g.Token.IsZero() {
			t.Errorf("%s: %+v, %v", body, g, err)
		}
		if _, err := call(t, src, agent.StepLogin, agent.Session{}); err == nil {
			t.Errorf("%s: a login took it", body)
		}
	}
}

// The first refresh token is the config's; the state keeps later ones, and one
// that is changed in the config begins anew.
func TestFirstRefreshToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rt")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	s := client(oauth2.RefreshToken)
	s.RefreshToken = &secret.Ref{File: secret.Path(file)}
	srv := &server{}
	srv.serve = func(q asked) answer { return whole(`"refresh_token":"after ` + q.form.Get("refresh_token") + `"`) }
	src := source(t, s, srv)
	if tr := src.Traits(); !tr.SelfStart || !tr.NeedsPerson || !tr.CanRefresh {
		t.Errorf("traits %+v", tr)
	}
	_, err := call(t, src, agent.StepLogin, agent.Session{})
	if e := wantKind(t, err, agent.NeedsHuman, "give a new refresh_token"); !e.Unsent {
		t.Error("a login was sent")
	}
	if _, ok := src.(agent.PersonSource); ok {
		t.Error("nobody can sign in here")
	}
	var session agent.Session
	step := func(want string) {
		t.Helper()
		g, err := call(t, src, agent.StepRefresh, session)
		if err != nil {
			t.Fatal(err)
		}
		if got := srv.last().form.Get("refresh_token"); got != want {
			t.Errorf("sent %q; want %q", got, want)
		}
		session = next(session, agent.StepRefresh, g)
	}
	step("first")
	step("after first")
	write("second")
	step("second")
	if !strings.Contains(session.RefreshToken.Reveal(), "after second") {
		t.Errorf("refresh token %q", session.RefreshToken.Reveal())
	}
	_ = os.Remove(file)
	step("after second") // it was spent long ago
	session.RefreshToken = agent.Secret{}
	_, err = call(t, src, agent.StepRefresh, session)
	if e := wantKind(t, err, agent.Misconfigured, "read secret file"); !e.Unsent {
		t.Error("something was sent")
	}
}

func TestNothingToRefresh(t *testing.T) {
	src := source(t, password(), answers(whole("")))
	if _, err := call(t, src, agent.StepRefresh, agent.Session{Token: agent.NewSecret("t"), Valid: true}); !errors.Is(err, agent.ErrPassedOver) {
		t.Errorf("%v; want it passed over", err)
	}
}

// The refresh token's own end, as vendors tell it.
func TestRefreshEnds(t *testing.T) {
	for more, want := range map[string]string{
		`"refresh_token":"r","refresh_expires_in":1800`:                               "29m59s",
		`"refresh_token":"r","refresh_token_expires_in":"3600"`:                       "59m59s",
		`"refresh_token":"r","refresh_expires_in":0`:                                  "0s",
		`"refresh_token":"r","refresh_expires_in":"never"`:                            "0s",
		`"refresh_token":"r","refresh_token_expires_in":3600,"refresh_expires_in":60`: "59s",
		`"refresh_token":"` + jwtOf(`{}`) + `","refresh_expires_in":61`:               "1m0s",
	} {
		g := login(t, source(t, password(), answers(whole(more))))
		if g.RefreshLife.String() != want {
			t.Errorf("%s: %v; want %s", more, g.RefreshLife, want)
		}
	}
	rt := jwtOf(fmt.Sprintf(`{"exp":%d}`, time.Now().Add(10*time.Minute).Unix()))
	g := login(t, source(t, password(), answers(whole(`"refresh_token":"`+rt+`","refresh_expires_in":1800`))))
	if g.RefreshLife > 10*time.Minute || g.RefreshLife < 9*time.Minute {
		t.Errorf("its own exp gives %v", g.RefreshLife)
	}
}

func sessionOf(rotates *bool) *spec.Session { return &spec.Session{Rotates: rotates} }
