package oauth2_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net"
	nethttp "net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"renewd/agent"
	"renewd/agent/source/oauth2"
	"renewd/agent/source/spec"
)

func deviceSpec() *oauth2.Spec {
	return &oauth2.Spec{TokenURL: tokenURL, DeviceURL: "https://id.example.com/device", Grant: oauth2.DeviceCode, ClientID: "dev", Scopes: spec.Strings{"read", "offline_access"}}
}

const deviceBody = `{"device_code":"dc-hunter2","user_code":"ABCD-EFGH","verification_uri":"https://id.example.com/d","verification_uri_complete":"https://id.example.com/d?c=ABCD-EFGH","expires_in":60,"interval":2`

func signIn(t *testing.T, src agent.Source, limit time.Duration, show func(agent.Prompt)) (*agent.Grant, error) {
	t.Helper()
	p, ok := src.(agent.PersonSource)
	if !ok {
		t.Fatal("nobody can sign in")
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if show == nil {
		show = func(agent.Prompt) {}
	}
	return p.SignIn(ctx, show)
}

// A device code is shown and polled for as the server wishes.
func TestDeviceCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var polls []time.Duration
		start := time.Now()
		// Polled too fast once, and no answer at all once.
		pending := fail(400, "authorization_pending")
		script := []answer{pending, fail(400, "slow_down"), pending, {status: -1}, pending, whole(`"refresh_token":"r","scope":"read"`)}
		srv := &server{}
		srv.serve = func(q asked) answer {
			if q.url == "https://id.example.com/device" {
				return ok(deviceBody + "}")
			}
			polls = append(polls, time.Since(start).Round(time.Second))
			return script[len(polls)-1]
		}
		src := source(t, deviceSpec(), srv)
		_, err := call(t, src, agent.StepLogin, agent.Session{})
		if e := wantKind(t, err, agent.NeedsHuman, "run: renewd login t"); !e.Unsent {
			t.Error("something was sent")
		}
		var shown agent.Prompt
		g, err := signIn(t, src, time.Hour, func(p agent.Prompt) { shown = p })
		if err != nil {
			t.Fatal(err)
		}
		if shown.Code != "ABCD-EFGH" || shown.URL != "https://id.example.com/d" || shown.Complete != "https://id.example.com/d?c=ABCD-EFGH" || shown.Local || !shown.Expires.Equal(start.Add(time.Minute)) {
			t.Errorf("shown %+v", shown)
		}
		if g.RefreshToken.Reveal() != "r" || g.Note != "" {
			t.Errorf("got %+v", g)
		}
		// 2 s each, 7 s once it was told to slow down, twice that after a failure.
		for i, want := range []int{2, 4, 11, 18, 32, 39} {
			if polls[i] != time.Duration(want)*time.Second {
				t.Errorf("polled at %v; want %d s", polls, want)
			}
		}
		if f := srv.last().form; f.Get("grant_type") != "urn:ietf:params:oauth:grant-type:device_code" || f.Get("device_code") != "dc-hunter2" || f.Get("client_id") != "dev" {
			t.Errorf("polled with %v", f)
		}
		if f := srv.asked[0].form; f.Get("scope") != "read offline_access" || f.Get("client_id") != "dev" {
			t.Errorf("asked with %v", f)
		}
	})
}

func TestDeviceCodeEnds(t *testing.T) {
	for _, c := range []struct {
		name  string
		poll  answer
		limit time.Duration
		kind  agent.Kind
		says  string
	}{
		{"denied", fail(400, "access_denied"), time.Hour, agent.NeedsHuman, "login: needs_human: the sign-in was denied; who signs in must agree to it, and be allowed to; run: renewd login t"},
		{"expired at the server", fail(400, "expired_token"), time.Hour, agent.NeedsHuman, "login: needs_human: the code expired before it was confirmed; run: renewd login t"},
		{"expired here", fail(400, "authorization_pending"), time.Hour, agent.NeedsHuman, "the code expired before it was confirmed"},
		{"nobody waits", fail(400, "authorization_pending"), 10 * time.Second, agent.NeedsHuman, "nobody confirmed the code in time"},
		{"unknown code", fail(400, "invalid_grant"), time.Hour, agent.NeedsHuman, "the server does not take the code"},
		{"wrong client", fail(401, "invalid_client"), time.Hour, agent.Rejected, "invalid_client"},
		{"no such grant", fail(400, "unsupported_grant_type"), time.Hour, agent.Misconfigured, "allow this client the grant device_code"},
	} {
		synctest.Test(t, func(t *testing.T) {
			srv := &server{}
			srv.serve = func(q asked) answer {
				if strings.HasSuffix(q.url, "/device") {
					return ok(deviceBody + "}")
				}
				return c.poll
			}
			_, err := signIn(t, source(t, deviceSpec(), srv), c.limit, nil)
			wantKind(t, err, c.kind, c.says)
			if srv.count() > 32 {
				t.Errorf("%s: %d requests", c.name, srv.count())
			}
		})
	}
}

// What is shown to a person is what it claims to be.
func TestDeviceCodeIsNoTrick(t *testing.T) {
	for _, c := range []struct{ body, says string }{
		{`{"user_code":"A","verification_uri":"https://x.example.com","expires_in":60}`, "device_code"},
		{`{"device_code":"d","verification_uri":"https://x.example.com"}`, "user_code"},
		{`{"device_code":"d","user_code":"A\u001b[2J","verification_uri":"https://x.example.com"}`, "user_code"},
		{`{"device_code":"d","user_code":"A","verification_uri":"javascript:alert(1)"}`, "verification_uri"},
		{`{"device_code":"d","user_code":"A","verification_uri":"http://x.example.com"}`, "verification_uri"},
		{`{"device_code":"d","user_code":"A","verification_uri":"https://x.example.com/\u0007"}`, "verification_uri"},
	} {
		_, err := signIn(t, source(t, deviceSpec(), answers(ok(c.body))), time.Second, func(agent.Prompt) { t.Errorf("shown: %s", c.body) })
		wantKind(t, err, agent.Misconfigured, "no usable "+c.says)
	}
	_, err := signIn(t, source(t, deviceSpec(), answers(fail(400, "unauthorized_client"))), time.Second, nil)
	wantKind(t, err, agent.Misconfigured, "unauthorized_client")
}

func browserSpec() *oauth2.Spec {
	return &oauth2.Spec{TokenURL: tokenURL, AuthorizationURL: "https://id.example.com/auth?x=1", Grant: oauth2.AuthorizationCode, ClientID: "web", Scopes: spec.Strings{"read"},
		Params: map[string]spec.Strings{"prompt": {"consent"}}}
}

// visit opens a URL as a browser does and gives what it shows.
func visit(t *testing.T, to string) (int, string) {
	t.Helper()
	resp, err := (&nethttp.Client{Timeout: 10 * time.Second}).Get(to)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", resp.Header)
	}
	if strings.Contains(string(b), "src=") || strings.Contains(string(b), "href=") {
		t.Error("the page needs something from elsewhere")
	}
	return resp.StatusCode, string(b)
}

// browse plays the browser: what it is sent to, answered with q.
func browse(p agent.Prompt, q url.Values) (asked url.Values, back string) {
	u, _ := url.Parse(p.URL)
	asked = u.Query()
	if q.Get("state") == "" {
		q.Set("state", asked.Get("state"))
	}
	return asked, asked.Get("redirect_uri") + "?" + q.Encode()
}

func TestAuthorizationCode(t *testing.T) {
	srv := answers(whole(`"refresh_token":"r"`))
	src := source(t, browserSpec(), srv)
	_, err := call(t, src, agent.StepLogin, agent.Session{})
	wantKind(t, err, agent.NeedsHuman, "run: renewd login t")
	var first url.Values
	shown := make(chan string, 1)
	g, err := signIn(t, src, 20*time.Second, func(p agent.Prompt) {
		asked, back := browse(p, url.Values{"code": {"c1"}})
		first = asked
		if !p.Local {
			t.Error("the browser must be on this machine")
		}
		go func() {
			if status, body := visit(t, strings.Replace(back, "state=", "state=x", 1)); status != 400 || !strings.Contains(body, "Not the sign-in") {
				t.Errorf("another state: %d %s", status, body)
			}
			_, body := visit(t, back)
			shown <- body
		}()
	})
	if err != nil {
		t.Fatal(err)
	}
	if body := <-shown; !strings.Contains(body, "You can close this tab") || !strings.Contains(body, "You are signed in") {
		t.Errorf("the person saw %s", body)
	}
	if g.Token.Reveal() != "at-1" || g.RefreshToken.Reveal() != "r" {
		t.Errorf("got %+v", g)
	}
	f := srv.last().form
	sum := sha256.Sum256([]byte(f.Get("code_verifier")))
	if first.Get("x") != "1" || first.Get("prompt") != "consent" || first.Get("response_type") != "code" || first.Get("client_id") != "web" || first.Get("scope") != "read" ||
		first.Get("code_challenge_method") != "S256" || first.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) || len(first.Get("state")) < 40 {
		t.Errorf("the browser was sent with %v", first)
	}
	if f.Get("grant_type") != "authorization_code" || f.Get("code") != "c1" || f.Get("redirect_uri") != first.Get("redirect_uri") || f.Get("client_id") != "web" {
		t.Errorf("redeemed with %v", f)
	}
	if u, _ := url.Parse(f.Get("redirect_uri")); u.Hostname() != "127.0.0.1" || u.Path != "/callback" {
		t.Errorf("redirected to %s", f.Get("redirect_uri"))
	}
	if _, err := net.DialTimeout("tcp", strings.TrimSuffix(strings.TrimPrefix(first.Get("redirect_uri"), "http://"), "/callback"), time.Second); err == nil {
		t.Error("the port is still listened on")
	}
}

// What the browser may bring instead of a code.
func TestBrowserRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		q     url.Values
		token answer
		kind  agent.Kind
		says  string
	}{
		{"denied", url.Values{"error": {"access_denied"}, "error_description": {hidden}}, whole(""), agent.NeedsHuman, "login: needs_human: the sign-in was denied; who"},
		{"scope", url.Values{"error": {"invalid_scope"}}, whole(""), agent.Misconfigured, "look at scopes"},
		{"down", url.Values{"error": {"temporarily_unavailable"}}, whole(""), agent.Transient, "temporarily_unavailable"},
		{"unknown", url.Values{"error": {hidden}}, whole(""), agent.NeedsHuman, "an error that OAuth does not know"},
		{"code refused", url.Values{"code": {"c"}}, fail(400, "invalid_grant"), agent.NeedsHuman, "does not take the code"},
		{"client refused", url.Values{"code": {"c"}}, fail(401, "invalid_client"), agent.Rejected, "invalid_client"},
		{"another issuer", url.Values{"code": {"c"}, "iss": {"https://" + hidden + ".example.com"}}, whole(""), agent.Misconfigured, "another issuer"},
		{"no issuer", url.Values{"code": {"c"}}, whole(""), agent.Misconfigured, "without the issuer that the server promises"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := browserSpec()
			srv := answers(c.token)
			if strings.Contains(c.name, "issuer") {
				s.TokenURL, s.Issuer = "", issuerURL
				s.AuthorizationURL = ""
				srv = site(map[string]answer{oidcPlace: document(issuerURL, `,"authorization_endpoint":"https://id.example.com/auth","authorization_response_iss_parameter_supported":true`)})
			}
			shown := make(chan string, 1)
			_, err := signIn(t, source(t, s, srv), 20*time.Second, func(p agent.Prompt) {
				_, back := browse(p, c.q)
				go func() { _, body := visit(t, back); shown <- body }()
			})
			e := wantKind(t, err, c.kind, c.says)
			if body := <-shown; !strings.Contains(body, "did not work") || !strings.Contains(body, e.Detail) || strings.Contains(body, hidden) {
				t.Errorf("the person saw %s", body)
			}
		})
	}
}

// A second answer while the first is redeemed gets a polite page and changes
// nothing; other paths, names and methods get nothing at all.
func TestSecondAnswer(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	srv := &server{}
	srv.serve = func(asked) answer { close(entered); <-release; return whole("") }
	done := make(chan struct{})
	g, err := signIn(t, source(t, browserSpec(), srv), 20*time.Second, func(p agent.Prompt) {
		_, back := browse(p, url.Values{"code": {"c1"}})
		base := strings.Split(back, "?")[0]
		for to, want := range map[string]int{strings.Replace(base, "/callback", "/favicon.ico", 1): 404, base: 400} {
			if status, _ := visit(t, to); status != want {
				t.Errorf("%s: %d; want %d", to, status, want)
			}
		}
		req, _ := nethttp.NewRequest("GET", back, nil)
		req.Host = "evil.example.com"
		if resp, err := nethttp.DefaultClient.Do(req); err != nil || resp.StatusCode != 421 {
			t.Errorf("another name: %v %v", resp, err)
		}
		if resp, err := nethttp.Post(back, "text/plain", nil); err != nil || resp.StatusCode != 405 {
			t.Errorf("a POST: %v %v", resp, err)
		}
		go func() {
			defer close(done)
			first := make(chan struct{})
			go func() { defer close(first); visit(t, back) }()
			<-entered
			_, again := browse(p, url.Values{"code": {"c2"}})
			if status, body := visit(t, again); status != 409 || !strings.Contains(body, "Already answered") {
				t.Errorf("a second answer: %d %s", status, body)
			}
			close(release)
			<-first
		}()
	})
	if err != nil || g.Token.IsZero() {
		t.Fatal(err)
	}
	<-done
}

func TestNobodyComes(t *testing.T) {
	_, err := signIn(t, source(t, browserSpec(), answers(whole(""))), 50*time.Millisecond, nil)
	wantKind(t, err, agent.NeedsHuman, "nobody signed in in time; run: renewd login t")
	_, err = signIn(t, source(t, browserSpec(), answers(whole(""))), 300*time.Millisecond, func(p agent.Prompt) {
		_, back := browse(p, url.Values{"code": {"c"}, "state": {"other"}})
		visit(t, back)
	})
	wantKind(t, err, agent.NeedsHuman, "an answer came whose state was not ours")
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := browserSpec()
	s.RedirectPort = l.Addr().(*net.TCPAddr).Port
	_, err = signIn(t, source(t, s, answers(whole(""))), time.Second, nil)
	if e := wantKind(t, err, agent.Misconfigured, "cannot listen on 127.0.0.1:"+strconv.Itoa(s.RedirectPort), "redirect_port"); !e.Unsent {
		t.Error("something was sent")
	}
}
