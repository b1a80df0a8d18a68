package oauth2_test

import (
	"fmt"
	nethttp "net/http"
	"testing"
	"testing/synctest"
	"time"

	"renewd/agent"
	"renewd/agent/source/oauth2"
	"renewd/agent/source/spec"
)

// Servers that do what no RFC says, each with what comes of it unasked and, where
// that cannot be known, as the config says.
func TestOddServers(t *testing.T) {
	status := func(n int64) *spec.Status {
		s := &spec.Status{}
		if err := s.SetTree(n, nil); err != nil {
			t.Fatal(err)
		}
		return s
	}
	html := map[string]string{"Content-Type": "text/html"}
	held := agent.Session{RefreshToken: agent.NewSecret("rt"), Token: agent.NewSecret("at"), Valid: true}
	for _, c := range []struct {
		name  string
		step  agent.Step
		a     answer
		kind  agent.Kind // unasked
		rule  oauth2.Rule
		ruled agent.Kind
	}{
		{"a wrong secret is 403 and nothing else", agent.StepLogin, answer{403, nil, ""}, agent.Rejected, oauth2.Rule{Status: status(403), Means: "misconfigured"}, agent.Misconfigured},
		{"a dead refresh token is a page with 500", agent.StepRefresh, answer{500, html, "<p>hunter2"}, agent.Transient, oauth2.Rule{Step: spec.Strings{"refresh"}, Status: status(500), Means: "session_over"}, agent.SessionOver},
		{"a dead refresh token is a code of their own", agent.StepRefresh, fail(400, "token_dead"), agent.SessionOver, oauth2.Rule{Code: spec.Strings{"token_dead"}, Means: "transient"}, agent.Transient},
		{"a locked account is a code of their own", agent.StepLogin, fail(400, "account_locked"), agent.Rejected, oauth2.Rule{Code: spec.Strings{"account_locked"}, Means: "locked"}, agent.Locked},
		{"too many is 403 with a code", agent.StepLogin, fail(403, "rate_limited"), agent.Rejected, oauth2.Rule{Code: spec.Strings{"rate_limited"}, Means: "throttled"}, agent.Throttled},
		{"an error beside a token", agent.StepLogin, whole(`"error":{"code":5}`), agent.Misconfigured, oauth2.Rule{Present: spec.Strings{"/error/code"}, Means: "rejected"}, agent.Rejected},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := password()
			_, err := call(t, source(t, s, answers(c.a)), c.step, held)
			wantKind(t, err, c.kind)
			s.Errors = []oauth2.Rule{c.rule}
			_, err = call(t, source(t, s, answers(c.a)), c.step, held)
			wantKind(t, err, c.ruled, "errors[0]")
		})
	}
}

// A server ten minutes ahead or behind says when a token ends by its own clock,
// and in milliseconds if it likes.
func TestLifeByTheServersClock(t *testing.T) {
	for _, off := range []time.Duration{10 * time.Minute, -10 * time.Minute, 0} {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(26 * 365 * 24 * time.Hour) // 12 digits of milliseconds are seconds to a reader
			theirs := time.Now().Add(off)
			end := theirs.Add(2 * time.Minute)
			for name, members := range map[string]string{
				"exp":                    fmt.Sprintf(`"access_token":%q`, jwtOf(fmt.Sprintf(`{"iat":%d,"exp":%d}`, theirs.Unix(), end.Unix()))),
				"exp in ms":              fmt.Sprintf(`"access_token":%q`, jwtOf(fmt.Sprintf(`{"exp":%d}`, end.UnixMilli()))),
				"expires_at in ms":       fmt.Sprintf(`"access_token":"at","expires_at":%d`, end.UnixMilli()),
				"expires_on":             fmt.Sprintf(`"access_token":"at","expires_on":"%d"`, end.Unix()),
				"ms that exp sets right": fmt.Sprintf(`"expires_in":120000,"access_token":%q`, jwtOf(fmt.Sprintf(`{"exp":%d}`, end.Unix()))),
			} {
				a := answer{200, map[string]string{"Date": theirs.UTC().Format(nethttp.TimeFormat)}, `{"token_type":"bearer",` + members + `}`}
				g := login(t, source(t, client(oauth2.ClientCredentials), answers(a)))
				if g.Life < 2*time.Minute-3*time.Second || g.Life > 2*time.Minute {
					t.Errorf("%s, %v off: life %v", name, off, g.Life)
				}
			}
		})
	}
}

// A refresh that brings no refresh token leaves the one that there is, and one
// that stays good for a while is shown again after an answer that was lost.
func TestNoNewRefreshToken(t *testing.T) {
	yes := true
	s := password()
	s.Session = &spec.Session{Rotates: &yes, ReuseSafe: &yes, Overlap: "none"}
	src := source(t, s, answers(whole(`"refresh_token":"r1"`), answer{status: -1}, whole(`"refresh_token":"r2"`), whole("")))
	if tr := src.Traits(); !tr.ReuseSafe || !tr.OverlapNone {
		t.Errorf("traits %+v", tr)
	}
	session := next(agent.Session{}, agent.StepLogin, login(t, src))
	_, err := call(t, src, agent.StepRefresh, session)
	wantKind(t, err, agent.Ambiguous)
	for _, want := range []string{"r2", "r2"} {
		g, err := call(t, src, agent.StepRefresh, session)
		if err != nil {
			t.Fatal(err)
		}
		if session = next(session, agent.StepRefresh, g); session.RefreshToken.Reveal() != want {
			t.Errorf("the refresh token is %q; want %q", session.RefreshToken.Reveal(), want)
		}
	}
}
