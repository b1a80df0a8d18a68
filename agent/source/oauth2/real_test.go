package oauth2_test

import (
	"fmt"
	nethttp "net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/oauth2"
	"renewd/agent/source/spec"
)

// Held against a server that nobody here wrote: every way to prove a client,
// every grant, rotation, proofs and revocation.
func TestProvider(t *testing.T) {
	p := startProvider(t)
	for name, test := range map[string]func(t *testing.T, p *provider){
		"client authentication": providerAuth, "wrong clients": providerRefuses, "grants without a person": providerGrants, "password": providerPassword,
		"device code": providerDevice, "browser": providerBrowser, "proofs": providerDPoP, "clocks": providerClocks,
	} {
		t.Run(name, func(t *testing.T) { test(t, p) })
	}
}

func (p *provider) certificate(s *oauth2.Spec, name string) *oauth2.Spec {
	s.TLS.CertFile, s.TLS.KeyFile = secret.Path(p.path(name+".pem")), secret.Path(p.path(name+".key"))
	return s
}

// keyed is a client with a private key.
func (p *provider) keyed(alg string) *oauth2.Spec {
	s := p.spec("pk-"+alg, oauth2.ClientCredentials)
	s.ClientKey, s.Algorithm = plain(p.keys[alg]), alg
	return s
}

func providerAuth(t *testing.T, p *provider) {
	specs := map[string]*oauth2.Spec{
		"client_secret_basic": p.confidential("basic", oauth2.ClientCredentials),
		"an odd secret":       p.confidential("odd", oauth2.ClientCredentials),
		"client_secret_post":  p.confidential("post", oauth2.ClientCredentials),
		"client_secret_jwt":   p.confidential("hs", oauth2.ClientCredentials),
		"tls_client_auth":     p.certificate(p.spec("mtls", oauth2.ClientCredentials), "client1"),
		"self-signed":         p.certificate(p.spec("self", oauth2.ClientCredentials), "self"),
	}
	specs["an odd secret"].ClientSecret = plain(oddSecret)
	specs["client_secret_post"].ClientAuth = "client_secret_post"
	specs["client_secret_jwt"].ClientAuth = "client_secret_jwt"
	specs["self-signed"].ClientAuth = "self_signed_tls_client_auth"
	for _, alg := range []string{"RS256", "PS256", "ES256", "EdDSA"} {
		specs["private_key_jwt "+alg] = p.keyed(alg)
	}
	specs["for the issuer"] = p.keyed("ES256")
	specs["for the issuer"].AssertionAudience = "issuer"
	for name, s := range specs {
		t.Run(name, func(t *testing.T) {
			s.Scopes, s.Resource = spec.Strings{"api:read"}, spec.Strings{"https://api.lab.test/opaque"}
			src := p.source(t, s, nil)
			g := login(t, src)
			if !p.active(t, g.Token) || g.Type != "Bearer" || g.Life < 55*time.Second || g.Note != "" {
				t.Fatalf("got %+v", g)
			}
			if again := login(t, src); again.Token.Equal(g.Token) {
				t.Error("a second login brought the same token")
			}
			if _, err := call(t, src, agent.StepLogout, next(agent.Session{}, agent.StepLogin, g)); err != nil {
				t.Fatal(err)
			}
			if p.active(t, g.Token) {
				t.Error("the token outlives its logout")
			}
			p.refreshesAs(t, s)
		})
	}
}

// refreshesAs gives the client of a Spec a session, and sees that it can refresh
// and end it as the client that it proves to be.
func (p *provider) refreshesAs(t *testing.T, s *oauth2.Spec) {
	t.Helper()
	person := *s
	person.Grant, person.Username, person.Password, person.Resource = oauth2.Password, "bob", plain("p&ss wörd"), nil
	src := p.source(t, &person, nil)
	session := next(agent.Session{}, agent.StepLogin, login(t, src))
	for range 2 {
		g, err := call(t, src, agent.StepRefresh, session)
		if err != nil {
			t.Fatal(err)
		}
		if g.Token.Equal(session.Token) || g.RefreshToken.Equal(session.RefreshToken) {
			t.Error("nothing was rotated")
		}
		session = next(session, agent.StepRefresh, g)
	}
	p.endsAt(t, src, session)
}

func providerRefuses(t *testing.T, p *provider) {
	wrong := p.confidential("basic", oauth2.ClientCredentials)
	wrong.ClientSecret = plain("wrong-" + hidden)
	target := p.confidential("basic", oauth2.ClientCredentials)
	target.Resource = spec.Strings{"https://elsewhere.example.com/"}
	grant := p.confidential("exchange", oauth2.ClientCredentials)
	key := p.keyed("ES256")
	key.ClientKey = plain(pemKey(t, "ES256"))
	bound := p.confidential("dpop", oauth2.ClientCredentials)
	issuer := p.confidential("basic", oauth2.ClientCredentials)
	issuer.Issuer += "/"
	for _, c := range []struct {
		name string
		s    *oauth2.Spec
		kind agent.Kind
		says string
	}{
		{"wrong secret", wrong, agent.Rejected, "invalid_client"},
		{"wrong key", key, agent.Rejected, "invalid_client"},
		{"another certificate", p.certificate(p.spec("mtls", oauth2.ClientCredentials), "client2"), agent.Rejected, "invalid_client"},
		{"no certificate", p.spec("mtls", oauth2.ClientCredentials), agent.Rejected, "invalid_client"},
		{"unknown resource", target, agent.Misconfigured, "look at resource"},
		{"another grant", grant, agent.Misconfigured, "may not have this grant"},
		{"no proof", bound, agent.Rejected, "dpop: true"},
		{"another issuer", issuer, agent.Misconfigured, "a / at its end"},
	} {
		_, err := call(t, p.source(t, c.s, nil), agent.StepLogin, agent.Session{})
		e := wantKind(t, err, c.kind, c.says)
		t.Logf("%s: %v; %s", c.name, e, e.Hint)
	}
	scopes := p.confidential("basic", oauth2.ClientCredentials)
	scopes.Scopes, scopes.Resource = spec.Strings{"api:read", "api:all"}, spec.Strings{"https://api.lab.test/opaque"}
	if g := login(t, p.source(t, scopes, nil)); !strings.Contains(g.Note, "without api:all") {
		t.Errorf("fewer scopes than asked: %q", g.Note)
	}
}

func providerGrants(t *testing.T, p *provider) {
	first := login(t, p.source(t, p.confidential("basic", oauth2.ClientCredentials), nil))
	s := p.confidential("exchange", oauth2.TokenExchange)
	s.SubjectToken = &oauth2.Subject{Token: "other"}
	subject := first.Token
	src := p.source(t, s, func(string) (agent.Secret, bool) { return subject, true })
	g := login(t, src)
	if !p.active(t, g.Token) || g.Token.Equal(first.Token) {
		t.Errorf("exchanged for %+v", g)
	}
	p.revoked(t, src, g)
	subject = agent.NewSecret("stale")
	_, err := call(t, src, agent.StepLogin, agent.Session{})
	wantKind(t, err, agent.Misconfigured, "the subject_token may be invalid")
	p.bearer(t)
}

// revoked logs out what has no refresh token.
func (p *provider) revoked(t *testing.T, src agent.Source, g *agent.Grant) {
	t.Helper()
	if _, err := call(t, src, agent.StepLogout, next(agent.Session{}, agent.StepLogin, g)); err != nil {
		t.Fatal(err)
	}
	if p.active(t, g.Token) {
		t.Error("the token outlives its logout")
	}
}

func providerPassword(t *testing.T, p *provider) {
	s := p.confidential("pw", oauth2.Password)
	s.Username, s.Password = "bob", plain("p&ss wörd")
	src := p.source(t, s, nil)
	session := next(agent.Session{}, agent.StepLogin, login(t, src))
	for range 2 { // this client keeps its refresh token
		g, err := call(t, src, agent.StepRefresh, session)
		if err != nil {
			t.Fatal(err)
		}
		if g.Token.Equal(session.Token) || !p.active(t, g.Token) {
			t.Error("the refresh brought no token")
		}
		session = next(session, agent.StepRefresh, g)
	}
	if spends(t, src, session) {
		t.Error("a refresh token that stays is said to be spent")
	}
	first := p.confidential("pw", oauth2.RefreshToken) // what others got can be given in the config
	first.RefreshToken = plain(session.RefreshToken.Reveal())
	if g, err := call(t, p.source(t, first, nil), agent.StepRefresh, agent.Session{}); err != nil || !p.active(t, g.Token) {
		t.Errorf("a first refresh token: %v", err)
	}
	p.endsAt(t, src, session)
	_, err := call(t, p.source(t, first, nil), agent.StepRefresh, agent.Session{})
	wantKind(t, err, agent.SessionOver, "invalid_grant")
	s.Password = plain("wrong")
	_, err = call(t, p.source(t, s, nil), agent.StepLogin, agent.Session{})
	wantKind(t, err, agent.Rejected, "look at username and password")
}

// endsAt logs a session out and sees that nothing of it is accepted any more.
func (p *provider) endsAt(t *testing.T, src agent.Source, session agent.Session) {
	t.Helper()
	if _, err := call(t, src, agent.StepLogout, session); err != nil {
		t.Fatal(err)
	}
	if p.active(t, session.Token) {
		t.Error("the token outlives its session")
	}
	_, err := call(t, src, agent.StepRefresh, session)
	wantKind(t, err, agent.SessionOver, "invalid_grant")
}

// rotates refreshes a few times, each time with a new refresh token, then uses an
// old one: the server ends the whole family.
func (p *provider) rotates(t *testing.T, src agent.Source, session agent.Session) {
	t.Helper()
	first := session
	for i := range 3 {
		if got := spends(t, src, session); got != (i > 0) {
			t.Errorf("refresh %d: spends is %v", i, got)
		}
		g, err := call(t, src, agent.StepRefresh, session)
		if err != nil {
			t.Fatal(err)
		}
		if g.RefreshToken.IsZero() || g.RefreshToken.Equal(session.RefreshToken) || g.Token.Equal(session.Token) {
			t.Error("nothing was rotated")
		}
		session = next(session, agent.StepRefresh, g)
	}
	_, err := call(t, src, agent.StepRefresh, first)
	wantKind(t, err, agent.SessionOver, "invalid_grant")
	_, err = call(t, src, agent.StepRefresh, session)
	wantKind(t, err, agent.SessionOver, "invalid_grant")
}

func providerDevice(t *testing.T, p *provider) {
	s := p.spec("device", oauth2.DeviceCode)
	s.Scopes, s.Resource = spec.Strings{"openid", "offline_access", "api:read"}, spec.Strings{"https://api.lab.test/opaque"}
	src := p.source(t, s, nil)
	session := p.confirmed(t, src)
	if !p.active(t, session.Token) || session.RefreshToken.IsZero() {
		t.Fatalf("got %+v", session)
	}
	p.endsAt(t, src, session)
	p.rotates(t, src, p.confirmed(t, src))
	var wg sync.WaitGroup
	_, err := signIn(t, src, time.Minute, func(prompt agent.Prompt) {
		wg.Go(func() { p.answer(t, prompt.Complete, url.Values{"abort": {"yes"}, "user_code": {prompt.Code}}) })
	})
	wg.Wait()
	wantKind(t, err, agent.NeedsHuman, "the sign-in was denied", "run: renewd login t")
}

// A machine whose clock is ten minutes off signs by the provider's, which allows
// for no difference at all.
func providerClocks(t *testing.T, p *provider) {
	for _, off := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		now := func() agent.Instant {
			i := clock()
			i.Wall = i.Wall.Add(off)
			return i
		}
		bearer := p.spec("bearer", oauth2.JWTBearer)
		bearer.Assertion = &oauth2.Assertion{Issuer: "svc@lab.test", Subject: "bob", Key: plain(p.keys["RS256"])}
		bound := p.confidential("dpop", oauth2.ClientCredentials)
		bound.DPoP = true
		for name, s := range map[string]*oauth2.Spec{"private_key_jwt": p.keyed("ES256"), "jwt_bearer": bearer, "dpop": bound} {
			g := login(t, p.sourceAt(t, s, nil, now))
			if !p.active(t, g.Token) || g.Life < 55*time.Second || g.Life > time.Minute || (g.Skew+off).Abs() > 3*time.Second {
				t.Errorf("%s, %v off: life %v, skew %v", name, off, g.Life, g.Skew)
			}
		}
	}
}

// confirmed is a session whose device code the person confirmed.
func (p *provider) confirmed(t *testing.T, src agent.Source) agent.Session {
	t.Helper()
	var wg sync.WaitGroup
	g, err := signIn(t, src, time.Minute, func(prompt agent.Prompt) {
		if prompt.Code == "" || prompt.Complete == "" || prompt.Expires.IsZero() {
			t.Errorf("shown %+v", prompt)
		}
		wg.Go(func() { p.approve(t, prompt.Complete, prompt.Code) })
	})
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return next(agent.Session{}, agent.StepLogin, g)
}

func providerBrowser(t *testing.T, p *provider) {
	s := p.spec("native", oauth2.AuthorizationCode)
	s.Scopes, s.Params = spec.Strings{"openid", "offline_access", "api:read"}, map[string]spec.Strings{"prompt": {"consent"}}
	s.Resource = spec.Strings{"https://api.lab.test/jwt"}
	src := p.source(t, s, nil)
	g, page := p.browse(t, src)
	if !strings.Contains(page, "You are signed in") || g.RefreshToken.IsZero() || g.Note != "" {
		t.Errorf("got %+v, and the person saw %s", g, page)
	}
	if c := part(t, g.Token.Reveal(), 1); c["aud"] != "https://api.lab.test/jwt" {
		t.Errorf("the token is for %v", c["aud"])
	}
	p.rotates(t, src, next(agent.Session{}, agent.StepLogin, g))
	s.Resource = nil
	src = p.source(t, s, nil)
	g, _ = p.browse(t, src)
	p.endsAt(t, src, next(agent.Session{}, agent.StepLogin, g))
}

// browse signs in with the browser and gives what the person saw at the end.
func (p *provider) browse(t *testing.T, src agent.Source) (*agent.Grant, string) {
	t.Helper()
	var wg sync.WaitGroup
	var page string
	g, err := signIn(t, src, 30*time.Second, func(prompt agent.Prompt) {
		if !strings.Contains(prompt.URL, "request_uri=") || strings.Contains(prompt.URL, "code_challenge") {
			t.Errorf("the request was not pushed: %s", prompt.URL)
		}
		wg.Go(func() { page = p.approve(t, prompt.URL, "") })
	})
	wg.Wait()
	if err != nil {
		t.Fatalf("%v; the person saw %s", err, page)
	}
	return g, page
}

func providerDPoP(t *testing.T, p *provider) {
	s := p.confidential("dpop", oauth2.ClientCredentials)
	s.DPoP = true
	if g := login(t, p.source(t, s, nil)); g.Type != "DPoP" || !p.active(t, g.Token) {
		t.Errorf("got %+v", g)
	}
	for _, alg := range []string{"ES256", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			s := p.spec("native-dpop", oauth2.AuthorizationCode)
			s.Scopes, s.Params = spec.Strings{"openid", "offline_access"}, map[string]spec.Strings{"prompt": {"consent"}}
			s.DPoP, s.DPoPAlgorithm = true, alg
			src := p.source(t, s, nil)
			g, _ := p.browse(t, src)
			session := next(agent.Session{}, agent.StepLogin, g)
			p.presented(t, src, session)
			g, err := call(t, src, agent.StepRefresh, session)
			if err != nil {
				t.Fatal(err)
			}
			session = next(session, agent.StepRefresh, g)
			p.presented(t, src, session)

			// The refresh token is bound to the key: with another one it is refused.
			stolen := session
			stolen.Private = agent.Secret{}
			_, err = call(t, p.source(t, s, nil), agent.StepRefresh, stolen)
			wantKind(t, err, agent.SessionOver)
		})
	}
}

// presented calls an API with the token and a proof of its key, and is refused
// without one.
func (p *provider) presented(t *testing.T, src agent.Source, session agent.Session) {
	t.Helper()
	me, nonce := p.issuer+"/me", ""
	get := func(proof string) *nethttp.Response {
		req, _ := nethttp.NewRequest("GET", me, nil)
		req.Header.Set("Authorization", src.Traits().Presentation.Value(session.Token.Reveal(), nil))
		if proof != "" {
			req.Header.Set("DPoP", proof)
		}
		resp, err := p.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp
	}
	var status []string
	for range 2 {
		proof, err := src.(agent.ProofSource).Proof(session, "GET", me, nonce)
		if err != nil {
			t.Fatal(err)
		}
		resp := get(proof)
		status = append(status, fmt.Sprint(resp.StatusCode))
		if nonce = resp.Header.Get("DPoP-Nonce"); resp.StatusCode == 200 {
			break
		}
	}
	if got := status[len(status)-1]; got != "200" {
		t.Errorf("the API answered %v", status)
	}
	if resp := get(""); resp.StatusCode/100 != 4 {
		t.Errorf("without a proof the API answered %d", resp.StatusCode)
	}
}
