package oauth2_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"renewd/agent"
	"renewd/agent/source/oauth2"
	"renewd/agent/source/spec"
)

func jwtOf(payload string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2ln"
}

// What a server says of a token's life, in every way that servers say it.
func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		sec := func(n int64) string { return fmt.Sprint(now.Unix() + n) }
		for _, c := range []struct {
			name   string
			answer string
			spec   func(s *oauth2.Spec)
			want   time.Duration // 0: misconfigured
			says   string
		}{
			{"number", `"expires_in":600`, nil, 599 * time.Second, ""},
			{"string", `"expires_in":"600"`, nil, 599 * time.Second, ""},
			{"fraction", `"expires_in":10.5`, nil, 10500 * time.Millisecond, ""},
			{"one second", `"expires_in":1`, nil, 750 * time.Millisecond, ""},
			{"milliseconds", `"expires_in":600000`, func(s *oauth2.Spec) { s.ExpiresIn = "ms" }, 599 * time.Second, ""},
			{"absurd", `"expires_in":1e300`, nil, 100*365*24*time.Hour - time.Second, ""},
			{"clipped", `"expires_in":600`, func(s *oauth2.Spec) { s.Lifetime = &spec.Lifetime{Max: "1m"} }, time.Minute, ""},
			{"zero", `"expires_in":0`, nil, 0, "had expired when it came"},
			{"negative", `"expires_in":-5`, nil, 0, "had expired when it came"},
			{"zero is ignored", `"expires_in":0`, func(s *oauth2.Spec) { s.ExpiresIn, s.Lifetime = "ignore", &spec.Lifetime{Default: "4h"} }, 4 * time.Hour, ""},
			{"missing", `"x":1`, nil, 0, "lifetime: {default: …}"},
			{"null", `"expires_in":null`, nil, 0, "nothing says how long the token lives"},
			{"missing, with a default", `"x":1`, func(s *oauth2.Spec) { s.Lifetime = &spec.Lifetime{Default: "4h"} }, 4 * time.Hour, ""},
			{"words", `"expires_in":"an hour"`, nil, 0, "expires_in cannot be read"},
			{"a list", `"expires_in":[1]`, nil, 0, "expires_in cannot be read"},
			{"words, with a default", `"expires_in":"an hour"`, func(s *oauth2.Spec) { s.Lifetime = &spec.Lifetime{Default: "4h"} }, 4 * time.Hour, ""},
			{"the token's own", `"access_token":"` + jwtOf(`{"iat":`+sec(0)+`,"exp":`+sec(120)+`}`) + `"`, nil, 119 * time.Second, ""},
			{"the token's own is less", `"expires_in":600,"access_token":"` + jwtOf(`{"iat":`+sec(0)+`,"exp":`+sec(120)+`}`) + `"`, nil, 119 * time.Second, ""},
			{"the token's own is not read", `"expires_in":600,"access_token":"` + jwtOf(`{"iat":`+sec(0)+`,"exp":`+sec(120)+`}`) + `"`,
				func(s *oauth2.Spec) { no := false; s.Lifetime = &spec.Lifetime{JWT: &no} }, 599 * time.Second, ""},
			{"absolute", `"expires_on":"` + sec(120) + `"`, nil, 119 * time.Second, ""},
		} {
			s := client(oauth2.ClientCredentials)
			if c.spec != nil {
				c.spec(s)
			}
			src := source(t, s, answers(ok(`{"access_token":"at","token_type":"bearer",`+c.answer+`}`)))
			g, err := call(t, src, agent.StepLogin, agent.Session{})
			switch {
			case c.want == 0:
				wantKind(t, err, agent.Misconfigured, c.says)
			case err != nil:
				t.Errorf("%s: %v", c.name, err)
			case g.Life != c.want:
				t.Errorf("%s: life %v; want %v", c.name, g.Life, c.want)
			}
		}
	})
}

// What is not a token is never one, whatever the status.
func TestNoToken(t *testing.T) {
	for _, c := range []struct {
		name string
		a    answer
		kind agent.Kind
		says string
	}{
		{"no token", ok(`{"token_type":"bearer","expires_in":60}`), agent.Misconfigured, "no access_token"},
		{"empty token", ok(`{"access_token":"","expires_in":60}`), agent.Misconfigured, "no access_token"},
		{"token is an object", ok(`{"access_token":{"v":"x"},"expires_in":60}`), agent.Misconfigured, "no access_token"},
		{"token with a line end", ok(`{"access_token":"a\nb","expires_in":60}`), agent.Misconfigured, "bytes that no header can carry"},
		{"a list", ok(`[]`), agent.Misconfigured, "no JSON object"},
		{"nothing", ok(``), agent.Misconfigured, "no JSON object"},
		{"cut off", ok(`{"access_token":"at`), agent.Misconfigured, "no JSON object"},
		{"HTML", answer{200, map[string]string{"Content-Type": "text/html"}, "<p>hunter2"}, agent.Misconfigured, "a page for people"},
		{"error in a 200", ok(`{"error":"invalid_client","error_description":"hunter2"}`), agent.Rejected, "200: invalid_client"},
		{"error beside a token", ok(`{"access_token":"at","expires_in":60,"error":"invalid_grant"}`), agent.Rejected, "200: invalid_grant"},
		{"unknown error in a 200", ok(`{"access_token":"at","expires_in":60,"error":"hunter2"}`), agent.Misconfigured, "an error that OAuth does not know"},
		{"error object in a 200", ok(`{"error":{"code":"hunter2"}}`), agent.Misconfigured, "an error that OAuth does not know"},
		{"no error", ok(`{"access_token":"at","expires_in":60,"error":null}`), "", ""},
		{"empty error", ok(`{"access_token":"at","expires_in":60,"error":""}`), "", ""},
		{"302", answer{302, map[string]string{"Location": "https://hunter2.example.com/"}, ""}, agent.Misconfigured, "a redirect that is not followed"},
		{"bound to a key", ok(`{"access_token":"at","expires_in":60,"token_type":"DPoP"}`), agent.Misconfigured, "dpop: true"},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := source(t, client(oauth2.ClientCredentials), answers(c.a))
			_, err := call(t, src, agent.StepLogin, agent.Session{})
			if c.kind == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantKind(t, err, c.kind, c.says)
		})
	}
}

// The codes of the RFCs, and what no code tells, by the step they come in.
func TestKinds(t *testing.T) {
	none, retry := map[string]string(nil), map[string]string{"Retry-After": "7"}
	const same = agent.Kind("same")
	for _, c := range []struct {
		a              answer
		login, refresh agent.Kind
	}{
		{fail(400, "invalid_grant"), agent.Rejected, agent.SessionOver},
		{fail(401, "invalid_client"), agent.Rejected, agent.Misconfigured}, // the session is kept
		{fail(400, "unauthorized_client"), agent.Misconfigured, same},
		{fail(401, "unauthorized_client"), agent.Rejected, agent.Misconfigured}, // Keycloak's wrong secret
		{fail(401, "access_denied"), agent.Rejected, agent.Misconfigured},       // Auth0's
		{fail(400, "invalid_scope"), agent.Misconfigured, same},
		{fail(400, "unsupported_grant_type"), agent.Misconfigured, same},
		{fail(400, "invalid_target"), agent.Misconfigured, same},
		{fail(400, "invalid_request"), agent.Misconfigured, same},
		{fail(400, "slow_down"), agent.Throttled, same},
		{fail(400, "access_denied"), agent.Misconfigured, agent.SessionOver},
		{fail(400, "expired_token"), agent.Rejected, agent.SessionOver},
		{fail(503, "temporarily_unavailable"), agent.Transient, same},
		{answer{503, retry, `{"error":"temporarily_unavailable"}`}, agent.Throttled, same},
		{fail(500, "server_error"), agent.Transient, same},
		{fail(400, "interaction_required"), agent.NeedsHuman, same},
		{fail(400, "login_required"), agent.NeedsHuman, same},
		{fail(400, "consent_required"), agent.NeedsHuman, same},
		{fail(429, "access_denied"), agent.Throttled, same},
		{answer{429, none, ""}, agent.Throttled, same},
		{answer{503, retry, ""}, agent.Throttled, same},
		{answer{503, none, ""}, agent.Transient, same},
		{answer{500, none, "<html>hunter2"}, agent.Transient, same},
		{answer{408, none, ""}, agent.Transient, same},
		{answer{404, none, ""}, agent.Misconfigured, same},
		{answer{405, none, ""}, agent.Misconfigured, same},
		{answer{403, none, ""}, agent.Rejected, agent.SessionOver},
		{answer{401, none, ""}, agent.Rejected, agent.SessionOver},
		{answer{403, none, "<!doctype html>hunter2"}, agent.Misconfigured, same},
		{fail(400, "hunter2_code"), agent.Rejected, agent.SessionOver},
		{answer{-1, none, ""}, agent.Transient, same},
	} {
		t.Run(fmt.Sprint(c.a.status, c.a.body[:min(len(c.a.body), 40)]), func(t *testing.T) {
			s := client(oauth2.Password)
			s.Username, s.Password = "bob", plain(hidden)
			src := source(t, s, answers(c.a))
			_, err := call(t, src, agent.StepLogin, agent.Session{})
			e := wantKind(t, err, c.login)
			if c.a.header != nil && e.Wait != 7*time.Second {
				t.Errorf("wait %v; the server asked for 7s", e.Wait)
			}
			_, err = call(t, src, agent.StepRefresh, agent.Session{RefreshToken: agent.NewSecret("rt-" + hidden)})
			if c.refresh == same {
				c.refresh = c.login
			}
			wantKind(t, err, c.refresh)
		})
	}
}

// Where a server is odd, the config says what its answers mean.
func TestRules(t *testing.T) {
	yes := true
	status := func(tree any) *spec.Status {
		s := &spec.Status{}
		if err := s.SetTree(tree, nil); err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := client(oauth2.Password)
	s.Username, s.Password = "bob", plain(hidden)
	number, words := "/error_codes/0", "/error/message"
	s.Errors = []oauth2.Rule{
		{Status: status(int64(403)), Empty: &yes, Means: "rejected", Hint: "the secret is wrong"},
		{Step: spec.Strings{"refresh"}, Status: status(int64(500)), Means: "session_over"},
		{Code: spec.Strings{"account_locked"}, Means: "locked", Wait: "5m"},
		{Code: spec.Strings{"invalid_grant"}, Status: status("4xx"), Means: "misconfigured"},
		{Pointer: &number, Equals: spec.Tree{V: []any{int64(7000222), int64(12345678901234567)}}, Means: "rejected", Hint: "it has expired"},
		{Pointer: &words, Matches: "(?i)^too many", Means: "throttled", Wait: "1m"},
		{Present: spec.Strings{"/mfa_token"}, Means: "needs_human"},
	}
	if got := problems(s); got != "" {
		t.Fatal(got)
	}
	for _, c := range []struct {
		step agent.Step
		a    answer
		kind agent.Kind
		says string
	}{
		{agent.StepLogin, answer{403, nil, "\n"}, agent.Rejected, "server answered 403 (errors[0]); the secret is wrong"},
		{agent.StepRefresh, answer{500, nil, "<html>hunter2"}, agent.SessionOver, "errors[1]"},
		{agent.StepLogin, answer{500, nil, "<html>hunter2"}, agent.Transient, "500"},
		{agent.StepLogin, fail(200, "account_locked"), agent.Locked, "errors[2]"},
		{agent.StepRefresh, fail(400, "invalid_grant"), agent.Misconfigured, "errors[3]"},
		{agent.StepLogin, answer{401, nil, `{"error":"invalid_client","error_codes":[7000222]}`}, agent.Rejected, "(errors[4]); it has expired"},
		{agent.StepLogin, answer{401, nil, `{"error":"invalid_client","error_codes":[12345678901234567]}`}, agent.Rejected, "errors[4]"},
		{agent.StepLogin, answer{401, nil, `{"error":"invalid_client","error_codes":[7]}`}, agent.Rejected, "401: invalid_client"},
		{agent.StepLogin, answer{400, nil, `{"error":{"message":"Too many tries, ` + hidden + `"}}`}, agent.Throttled, "errors[5]"},
		{agent.StepLogin, answer{200, nil, `{"access_token":"at","expires_in":60,"mfa_token":"` + hidden + `"}`}, agent.NeedsHuman, "errors[6]"},
		{agent.StepLogin, answer{400, nil, `{"error":"x","mfa_token":null}`}, agent.Rejected, "an error that OAuth does not know"},
	} {
		_, err := call(t, source(t, s, answers(c.a)), c.step, agent.Session{RefreshToken: agent.NewSecret("r")})
		e := wantKind(t, err, c.kind, c.says)
		if c.kind == agent.Locked && e.Wait != 5*time.Minute {
			t.Errorf("wait %v", e.Wait)
		}
	}
}

// Fewer scopes than asked is said, in our own words.
func TestScopeReduced(t *testing.T) {
	s := client(oauth2.ClientCredentials)
	s.Scopes = spec.Strings{"read", "write", "admin"}
	g := login(t, source(t, s, answers(whole(`"scope":"read hunter2"`))))
	if g.Note != "the server granted fewer scopes than asked: without write, admin" {
		t.Errorf("note %q", g.Note)
	}
	if g := login(t, source(t, s, answers(whole("")))); g.Note != "" {
		t.Errorf("note %q, though the server did not say", g.Note)
	}
	// It stays so until the server says otherwise.
	s = client(oauth2.Password)
	s.Username, s.Password, s.Scopes = "bob", plain(hidden), spec.Strings{"read", "write"}
	src := source(t, s, answers(whole(`"refresh_token":"r","scope":"read"`), whole(""), whole(`"scope":"read write"`), whole("")))
	session := next(agent.Session{}, agent.StepLogin, login(t, src))
	for i, want := range []string{"the server granted fewer scopes than asked: without write", "", ""} {
		g, err := call(t, src, agent.StepRefresh, session)
		if err != nil || g.Note != want {
			t.Errorf("refresh %d: %q, %v", i, g.Note, err)
		}
		session = next(session, agent.StepRefresh, g)
	}
}

func TestTokenTypeAndIDToken(t *testing.T) {
	for in, want := range map[string]string{"bearer": "Bearer", "BEARER": "Bearer", "mac": "mac", "N_A": "", strings.Repeat("x", 40): "", "a b": ""} {
		g := login(t, source(t, client(oauth2.ClientCredentials), answers(ok(`{"access_token":"at","expires_in":60,"token_type":"`+in+`"}`))))
		if g.Type != want {
			t.Errorf("type %q became %q; want %q", in, g.Type, want)
		}
	}
	s := client(oauth2.Password)
	s.Username, s.Password, s.Token = "bob", plain("x"), "id_token"
	exp := time.Now().Add(10 * time.Minute).Unix()
	id := jwtOf(fmt.Sprintf(`{"exp":%d}`, exp))
	g := login(t, source(t, s, answers(whole(`"id_token":"`+id+`"`))))
	if g.Token.Reveal() != id || g.Life > 10*time.Minute {
		t.Errorf("got %q for %v", g.Token.Reveal(), g.Life)
	}
	_, err := call(t, source(t, s, answers(whole(""))), agent.StepLogin, agent.Session{})
	wantKind(t, err, agent.Misconfigured, "no id_token", "scopes: [openid")
}

// No answer, however odd, makes a grant that the agent may not believe, nor an
// error that tells what the server said.
func FuzzAnswer(f *testing.F) {
	for _, b := range []string{`{"access_token":"at","expires_in":1}`, `{"access_token":"at","expires_in":"1e999"}`, `{"error":"invalid_grant"}`,
		`{"error":{}}`, `{"access_token":"at","refresh_token":"rt","expires_in":-1,"scope":"a b","refresh_expires_in":"x"}`, "\xef\xbb\xbf{}", `{"access_token":5,"expires_in":5}`,
		`{"access_token":"a","expires_at":"2030-01-01T00:00:00Z","token_type":"\u0000"}`} {
		f.Add(200, b, "")
		f.Add(400, b, "Sat, 21 Nov 2026 00:00:00 GMT")
	}
	f.Fuzz(func(t *testing.T, status int, body, date string) {
		if status < 100 || status > 599 {
			return
		}
		s := client(oauth2.Password)
		s.Username, s.Password, s.Scopes = "bob", plain("x"), spec.Strings{"read"}
		src := source(t, s, answers(answer{status, map[string]string{"Date": date}, body}))
		for _, step := range []agent.Step{agent.StepLogin, agent.StepRefresh} {
			g, err := call(t, src, step, agent.Session{Token: agent.NewSecret("old"), RefreshToken: agent.NewSecret("r")})
			if err != nil {
				e, ok := err.(*agent.Error) //nolint:errorlint // it must be one itself
				if !ok || e.Detail == "" || e.Step != step {
					t.Fatalf("%#v", err)
				}
				continue
			}
			token := g.Token.Reveal()
			if token == "" && (step == agent.StepLogin || g.RefreshToken.IsZero()) {
				t.Fatal("a grant without anything")
			}
			if token != "" && (g.Life <= 0 || g.Life > 101*365*24*time.Hour) {
				t.Fatalf("life %v", g.Life)
			}
			if strings.ContainsFunc(token, func(r rune) bool { return r < 0x21 || r > 0x7e }) {
				t.Fatalf("token %q", token)
			}
		}
	})
}
