package oauth2_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	nethttp "net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"renewd/agent"
	"renewd/agent/source/oauth2"
	"renewd/agent/source/spec"
)

// other is one more real server, for the grants that oidc-provider does not have.
type other struct {
	base string
	http *nethttp.Client
}

// installed is the path of a program that .ci/run builds; where it is missing the
// test is skipped, or fails where RENEWD_REQUIRE wants it.
func installed(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs("../../../.cache/tools/" + name)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err == nil {
		return path
	}
	if slices.Contains(strings.Split(os.Getenv("RENEWD_REQUIRE"), ","), name) {
		t.Fatalf("%s is required: %v", name, err)
	}
	t.Skipf("%s is not here: %v", name, err)
	return ""
}

// startOther runs a program on a free port, which it learns by command, and waits
// until ready answers.
func startOther(t *testing.T, ready string, command func(port string) *exec.Cmd) *other {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	c := command(port)
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if t.Failed() {
			t.Logf("the server said:\n%s", said.String())
		}
	})
	jar, _ := cookiejar.New(nil)
	o := &other{"http://localhost:" + port, &nethttp.Client{Timeout: 10 * time.Second, Jar: jar}}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		resp, err := o.http.Get(o.base + ready)
		if err == nil {
			_ = resp.Body.Close()
			return o
		}
		if time.Now().After(end) {
			t.Fatalf("the server did not start: %v", err)
		}
	}
}

// TestZitadel is held against the example server of zitadel/oidc, which knows the
// JWT profile (RFC 7523) and token exchange (RFC 8693) by itself.
func TestZitadel(t *testing.T) {
	program := installed(t, "zitadel-oidc")
	key, err := os.ReadFile(program + ".pem")
	if err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(t.TempDir(), "users.json")
	b, _ := json.Marshal(map[string]any{
		"alice":   map[string]any{"ID": "alice", "Username": "alice", "Password": "alice-" + hidden, "IsAdmin": true},
		"service": map[string]any{"ID": "service", "Username": "service"},
	})
	if err := os.WriteFile(users, b, 0o600); err != nil {
		t.Fatal(err)
	}
	o := startOther(t, "/.well-known/openid-configuration", func(port string) *exec.Cmd {
		c := exec.Command(program)
		c.Env = append(os.Environ(), "PORT="+port, "USERS_FILE="+users, "REDIRECT_URI=http://127.0.0.1/callback")
		return c
	})
	t.Run("client_credentials", o.clientCredentials)
	t.Run("jwt_bearer", func(t *testing.T) { o.jwtBearer(t, string(key)) })
	t.Run("authorization_code and token_exchange", o.exchange)
}

func (o *other) spec(grant, id, password string) *oauth2.Spec {
	s := &oauth2.Spec{Issuer: o.base + "/", Grant: grant, ClientID: id}
	if password != "" {
		s.ClientSecret = plain(password)
	}
	return s
}

// accepts asks zitadel's server whether a token is good for a client (RFC 7662).
func (o *other) accepts(t *testing.T, client string, token agent.Secret) bool {
	t.Helper()
	req, _ := nethttp.NewRequest("POST", o.base+"/oauth/introspect", strings.NewReader(url.Values{"token": {token.Reveal()}}.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(client, "secret")
	resp, err := o.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var m struct{ Active bool }
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil || resp.StatusCode != 200 {
		t.Fatalf("introspection: %d %v", resp.StatusCode, err)
	}
	return m.Active
}

func (o *other) clientCredentials(t *testing.T) {
	for _, auth := range []string{"client_secret_basic", "client_secret_post"} {
		s := o.spec(oauth2.ClientCredentials, "sid1", "verysecret")
		s.ClientAuth = auth
		if g := login(t, source(t, s, nethttp.DefaultTransport)); g.Type != "Bearer" || g.Life < time.Minute {
			t.Errorf("%s: got %+v", auth, g)
		}
	}
	_, err := call(t, source(t, o.spec(oauth2.ClientCredentials, "sid1", "wrong-"+hidden), nethttp.DefaultTransport), agent.StepLogin, agent.Session{})
	wantKind(t, err, agent.Rejected)
}

func (o *other) jwtBearer(t *testing.T, key string) {
	s := o.spec(oauth2.JWTBearer, "", "")
	s.Scopes = spec.Strings{"openid"}
	// What it tells of a signature that does not fit can only be configured.
	s.Errors = []oauth2.Rule{{Step: spec.Strings{"login"}, Code: spec.Strings{"server_error"}, Means: "rejected", Hint: "look at assertion"}}
	s.Assertion = &oauth2.Assertion{Issuer: "service", Key: plain(key), KeyID: "key1",
		Claims: map[string]spec.Tree{"aud": {V: []any{o.base + "/", "api"}}}}
	src := source(t, s, nethttp.DefaultTransport)
	var before agent.Secret
	for range 2 { // nothing refreshes it: each renewal is signed anew
		g := login(t, src)
		if !o.accepts(t, "api", g.Token) || g.Token.Equal(before) || g.Life < time.Minute {
			t.Errorf("got %+v", g)
		}
		before = g.Token
	}
	_, err := call(t, src, agent.StepRefresh, agent.Session{Token: before, Valid: true})
	if err != agent.ErrPassedOver {
		t.Errorf("a refresh: %v", err)
	}
	for name, spoil := range map[string]func(a *oauth2.Assertion){
		"another key":    func(a *oauth2.Assertion) { a.Key = plain(pemKey(t, "RS256")) },
		"another kid":    func(a *oauth2.Assertion) { a.KeyID = "key2" },
		"nobody known":   func(a *oauth2.Assertion) { a.Issuer = "nobody" },
		"other audience": func(a *oauth2.Assertion) { a.Claims = nil; a.Audience = "https://elsewhere.example.com/" },
	} {
		bad := *s
		a := *s.Assertion
		bad.Assertion = &a
		spoil(&a)
		_, err := call(t, source(t, &bad, nethttp.DefaultTransport), agent.StepLogin, agent.Session{})
		if err == nil {
			t.Errorf("%s: it was taken", name)
			continue
		}
		t.Logf("%s: %v", name, wantKind(t, err, agent.Rejected, "look at assertion"))
	}
}

var loginID = regexp.MustCompile(`name="id" value="([^"]+)"`)

// signsIn is alice at the browser.
func (o *other) signsIn(t *testing.T, start string) string {
	t.Helper()
	get := func(resp *nethttp.Response, err error) string {
		if err != nil {
			t.Error(err)
			return ""
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return string(b)
	}
	page := get(o.http.Get(start))
	id := loginID.FindStringSubmatch(page)
	if id == nil {
		t.Errorf("no page to sign in: %s", page)
		return ""
	}
	return get(o.http.PostForm(o.base+"/login/username", url.Values{"id": {id[1]}, "username": {"alice"}, "password": {"alice-" + hidden}}))
}

// exchange signs a person in, and trades what came of it for tokens of another
// client.
func (o *other) exchange(t *testing.T) {
	ids := o.native()
	ids.Token = "id_token"
	first, _ := o.person(t, ids)
	person, native := o.person(t, o.native())
	person = o.rotated(t, native, person)
	for _, c := range []struct {
		name, is, want string
		subject        agent.Secret
	}{
		{"an id_token for an access token", "id_token", "access_token", first.Token},
		{"a refresh token for a session", "refresh_token", "refresh_token", person.RefreshToken},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := o.spec(oauth2.TokenExchange, "web", "secret")
			s.Scopes, s.Audience = spec.Strings{"openid"}, "web"
			s.SubjectToken, s.SubjectTokenType, s.RequestedTokenType = &oauth2.Subject{Token: "other"}, c.is, c.want
			e := env(nethttp.DefaultTransport)
			e.Token = func(string) (agent.Secret, bool) { return c.subject, true }
			src, problems := oauth2.New(s, e)
			if src == nil {
				t.Fatal(problems)
			}
			session := next(agent.Session{}, agent.StepLogin, login(t, src))
			if !o.accepts(t, "web", session.Token) || session.Token.Equal(c.subject) {
				t.Error("the exchange brought no token of its own")
			}
			if c.want == "refresh_token" {
				session = o.rotated(t, src, session)
				o.ends(t, src, session)
			} else if _, err := call(t, src, agent.StepLogout, session); err != nil {
				t.Error(err)
			}
			if o.accepts(t, "web", session.Token) {
				t.Error("the token outlives its logout")
			}
			c.subject = agent.NewSecret("stale-" + hidden)
			_, err := call(t, src, agent.StepLogin, agent.Session{})
			wantKind(t, err, agent.Misconfigured, "the subject_token may be invalid")
		})
	}
	o.ends(t, native, person)
}

// person is the session of alice, who signs in.
func (o *other) person(t *testing.T, s *oauth2.Spec) (agent.Session, agent.Source) {
	t.Helper()
	src := source(t, s, nethttp.DefaultTransport)
	var wg sync.WaitGroup
	var page string
	g, err := signIn(t, src, 30*time.Second, func(p agent.Prompt) { wg.Go(func() { page = o.signsIn(t, p.URL) }) })
	wg.Wait()
	if err != nil || g.RefreshToken.IsZero() {
		t.Fatalf("%v; %+v; the person saw %s", err, g, page)
	}
	return next(agent.Session{}, agent.StepLogin, g), src
}

func (o *other) native() *oauth2.Spec {
	s := o.spec(oauth2.AuthorizationCode, "native", "")
	s.Scopes = spec.Strings{"openid", "offline_access"}
	return s
}

// rotated refreshes twice; each refresh spends its refresh token.
func (o *other) rotated(t *testing.T, src agent.Source, session agent.Session) agent.Session {
	t.Helper()
	for range 2 {
		g, err := call(t, src, agent.StepRefresh, session)
		if err != nil {
			t.Fatal(err)
		}
		if g.RefreshToken.IsZero() || g.RefreshToken.Equal(session.RefreshToken) || g.Token.Equal(session.Token) {
			t.Errorf("nothing was rotated: %+v", g)
		}
		session = next(session, agent.StepRefresh, g)
	}
	return session
}

// ends logs a session out and sees that its refresh token is of no use.
func (o *other) ends(t *testing.T, src agent.Source, session agent.Session) {
	t.Helper()
	if _, err := call(t, src, agent.StepLogout, session); err != nil {
		t.Fatal(err)
	}
	_, err := call(t, src, agent.StepRefresh, session)
	wantKind(t, err, agent.SessionOver)
}

// TestPasswordAtGoOAuth2 is held against the example server of go-oauth2/oauth2,
// which knows grant password by itself, and lets a refresh kill the old access
// token at once.
func TestPasswordAtGoOAuth2(t *testing.T) {
	program := installed(t, "go-oauth2")
	o := startOther(t, "/test", func(port string) *exec.Cmd { return exec.Command(program, "-p", port, "-d=false") })
	accepts := func(token agent.Secret) bool {
		req, _ := nethttp.NewRequest("GET", o.base+"/test", nil)
		req.Header.Set("Authorization", "Bearer "+token.Reveal())
		resp, err := o.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode == 200
	}
	s := &oauth2.Spec{TokenURL: o.base + "/oauth/token", Grant: oauth2.Password, ClientID: "222222", ClientSecret: plain("22222222"),
		Username: "test", Password: plain("test"), Scopes: spec.Strings{"all"}}
	src := source(t, s, nethttp.DefaultTransport)
	session := next(agent.Session{}, agent.StepLogin, login(t, src))
	for range 3 {
		if !accepts(session.Token) {
			t.Fatal("the API refuses the token")
		}
		g, err := call(t, src, agent.StepRefresh, session)
		if err != nil {
			t.Fatal(err)
		}
		if accepts(session.Token) || g.RefreshToken.IsZero() {
			t.Error("the old token outlives the refresh, which was thought to kill it")
		}
		before := session
		session = next(session, agent.StepRefresh, g)
		_, err = call(t, src, agent.StepRefresh, before)
		wantKind(t, err, agent.SessionOver)
	}
	if _, err := call(t, src, agent.StepLogout, session); err != agent.ErrPassedOver {
		t.Errorf("a server without revocation is asked for one: %v", err)
	}
	// It tells of a wrong password as of an outage, so that has to be configured.
	s.Password = plain("wrong-" + hidden)
	_, err := call(t, source(t, s, nethttp.DefaultTransport), agent.StepLogin, agent.Session{})
	wantKind(t, err, agent.Transient, "server answered 500")
	s.Errors = []oauth2.Rule{{Step: spec.Strings{"login"}, Code: spec.Strings{"server_error"}, Means: "rejected"}}
	_, err = call(t, source(t, s, nethttp.DefaultTransport), agent.StepLogin, agent.Session{})
	wantKind(t, err, agent.Rejected, "server answered 500 (errors[0])")
	s.Password, s.ClientSecret = plain("test"), plain("wrong-"+hidden)
	_, err = call(t, source(t, s, nethttp.DefaultTransport), agent.StepLogin, agent.Session{})
	wantKind(t, err, agent.Rejected, "invalid_client")
}
