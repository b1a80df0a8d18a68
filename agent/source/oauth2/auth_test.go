package oauth2_test

import (
	"encoding/base64"
	"encoding/json"
	nethttp "net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/oauth2"
	"renewd/agent/source/signer"
	"renewd/agent/source/spec"
	"renewd/agent/source/wire"
)

func pemKey(t testing.TB, algorithm string) string {
	t.Helper()
	b, err := signer.Generate(algorithm)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// part decodes the header (0) or the claims (1) of a JWT.
func part(t testing.TB, token string, i int) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no JWT", token)
	}
	var m map[string]any
	if err := json.Unmarshal(signer.DecodeSegment(parts[i]), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// Id and secret are form-encoded before base64 (RFC 6749 §2.3.1), so that a
// server that decodes them finds the colon, the plus and the percent sign whole.
func TestBasicIsEncodedFirst(t *testing.T) {
	s := client(oauth2.ClientCredentials)
	s.ClientID, s.ClientSecret = "my:client", plain("p+a/s:s%20w&rd= x")
	srv := answers(whole(""))
	login(t, source(t, s, srv))
	b, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(srv.last().header.Get("Authorization"), "Basic "))
	if string(b) != "my%3Aclient:p%2Ba%2Fs%3As%2520w%26rd%3D+x" {
		t.Errorf("sent %q", b)
	}
}

func TestPostAndNone(t *testing.T) {
	s := client(oauth2.ClientCredentials)
	s.ClientAuth = "client_secret_post"
	srv := answers(whole(""))
	login(t, source(t, s, srv))
	if q := srv.last(); q.form.Get("client_id") != "svc" || q.form.Get("client_secret") != "cs-"+hidden || q.basic != "" {
		t.Errorf("sent %v %q", q.form, q.basic)
	}
	s = client(oauth2.ClientCredentials)
	s.ClientSecret = nil
	login(t, source(t, s, srv))
	if q := srv.last(); q.form.Get("client_id") != "svc" || len(q.form) != 2 || q.basic != "" {
		t.Errorf("sent %v %q", q.form, q.basic)
	}
}

// A client assertion says who signs it, for whom and for how long, and is never
// sent twice.
func TestClientAssertion(t *testing.T) {
	for alg, key := range map[string]string{"RS256": pemKey(t, "RS256"), "PS256": pemKey(t, "RS256"), "ES256": pemKey(t, "ES256"), "EdDSA": pemKey(t, "EdDSA"), "HS256": "cs-" + hidden, "HS512": "cs-" + hidden} {
		s := client(oauth2.ClientCredentials)
		if strings.HasPrefix(alg, "HS") {
			s.ClientAuth = "client_secret_jwt"
		} else {
			s.ClientSecret, s.ClientKey, s.KeyID = nil, plain(key), "k1"
		}
		if alg == "PS256" || alg == "HS512" {
			s.Algorithm = alg // the others are told from the key
		}
		srv := answers(whole(""))
		src := source(t, s, srv)
		login(t, src)
		q := srv.last()
		jwt := q.form.Get("client_assertion")
		header, claims := part(t, jwt, 0), part(t, jwt, 1)
		if header["alg"] != alg || strings.HasPrefix(alg, "HS") == (header["kid"] == "k1") {
			t.Errorf("%s: header %v", alg, header)
		}
		iat, exp := claims["iat"].(float64), claims["exp"].(float64)
		if claims["iss"] != "svc" || claims["sub"] != "svc" || claims["aud"] != tokenURL || exp-iat != 120 || claims["jti"] == "" {
			t.Errorf("%s: claims %v", alg, claims)
		}
		if q.form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" || q.form.Get("client_id") != "svc" || q.form.Get("client_secret") != "" {
			t.Errorf("%s: sent %v", alg, q.form)
		}
		login(t, src)
		if part(t, srv.last().form.Get("client_assertion"), 1)["jti"] == claims["jti"] {
			t.Errorf("%s: a jti was sent twice", alg)
		}
	}
}

func TestAssertionAudience(t *testing.T) {
	srv := site(map[string]answer{oidcPlace: document(issuerURL, "")})
	for word, want := range map[string]string{"": "https://id.example.com/t", "token_url": "https://id.example.com/t", "issuer": issuerURL, "https://x.example.com": "https://x.example.com"} {
		s := discovering()
		s.ClientAuth, s.AssertionAudience = "client_secret_jwt", word
		login(t, source(t, s, srv))
		if got := part(t, srv.last().form.Get("client_assertion"), 1)["aud"]; got != want {
			t.Errorf("%q: aud %v; want %s", word, got, want)
		}
	}
}

func TestJWTBearer(t *testing.T) {
	s := &oauth2.Spec{TokenURL: tokenURL, Grant: oauth2.JWTBearer, Assertion: &oauth2.Assertion{
		Issuer: "svc@example.com", Subject: "bob", Key: plain(pemKey(t, "RS256")), KeyID: "k1", Lifetime: "1h",
		Claims:  map[string]spec.Tree{"scope": {V: "a b"}, "aud": {V: "https://aud.example.com"}, "jti": {}},
		Headers: map[string]spec.Tree{"x5t": {V: "abc"}}}}
	srv := answers(whole(""))
	login(t, source(t, s, srv))
	q := srv.last()
	header, claims := part(t, q.form.Get("assertion"), 0), part(t, q.form.Get("assertion"), 1)
	if q.form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" || q.form.Get("client_id") != "" {
		t.Errorf("sent %v", q.form)
	}
	if header["kid"] != "k1" || header["x5t"] != "abc" || claims["iss"] != "svc@example.com" || claims["sub"] != "bob" || claims["scope"] != "a b" ||
		claims["aud"] != "https://aud.example.com" || claims["exp"].(float64)-claims["iat"].(float64) != 3600 {
		t.Errorf("signed %v %v", header, claims)
	}
	if _, ok := claims["jti"]; ok {
		t.Error("null did not remove jti")
	}
}

// A clock that is ten minutes off: what is signed is signed again by the
// server's clock, once, and that is no try of its own.
func TestClockIsOff(t *testing.T) {
	for _, off := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(24 * 365 * time.Hour)
			tolerant := true
			srv := &server{}
			srv.serve = func(q asked) answer {
				theirs := time.Now().Add(off)
				date := map[string]string{"Date": theirs.UTC().Format(nethttp.TimeFormat)}
				iat := time.Unix(int64(part(t, q.form.Get("client_assertion"), 1)["iat"].(float64)), 0)
				if d := theirs.Sub(iat); d < 0 || d > time.Minute || !tolerant {
					a := fail(401, "invalid_client")
					a.header = date
					return a
				}
				a := whole("")
				a.header = date
				return a
			}
			s := client(oauth2.ClientCredentials)
			s.ClientAuth = "client_secret_jwt"
			src := source(t, s, srv)
			login(t, src)
			if srv.count() != 2 {
				t.Errorf("%d requests; want the refused one and one more", srv.count())
			}
			login(t, src)
			if srv.count() != 3 {
				t.Error("the clock is not remembered")
			}
			tolerant = false
			_, err := call(t, src, agent.StepLogin, agent.Session{})
			side := "ahead of"
			if off < 0 {
				side = "behind"
			}
			wantKind(t, err, agent.Misconfigured, "its clock is 10m", side+" ours", "set this machine's clock")
			if srv.count() != 5 {
				t.Errorf("%d requests", srv.count())
			}
		})
	}
}

// A key that cannot be used is said before anything is sent.
func TestBadKeys(t *testing.T) {
	for _, c := range []struct{ key, algorithm, says string }{
		{"-----BEGIN ENCRYPTED PRIVATE KEY-----\naHVudGVyMg==\n-----END ENCRYPTED PRIVATE KEY-----\n", "", "client_key: the key is encrypted with a passphrase"},
		{pemKey(t, "ES256"), "RS256", "it is an EC key on P-256, and that needs an RSA key"},
		{"hunter2", "", "no private key in PEM"},
	} {
		s := client(oauth2.ClientCredentials)
		s.ClientSecret, s.ClientKey, s.Algorithm = nil, plain(c.key), c.algorithm
		srv := answers(whole(""))
		_, err := call(t, source(t, s, srv), agent.StepLogin, agent.Session{})
		if e := wantKind(t, err, agent.Misconfigured, c.says); !e.Unsent || srv.count() > 0 {
			t.Error("something was sent")
		}
	}
}

func TestTokenExchange(t *testing.T) {
	file := filepath.Join(t.TempDir(), "subject")
	if err := os.WriteFile(file, []byte("sub-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := client(oauth2.TokenExchange)
	s.SubjectToken = &oauth2.Subject{Secret: secret.Ref{File: secret.Path(file)}}
	s.ActorToken, s.RequestedTokenType = &oauth2.Subject{Token: "other"}, "jwt"
	srv := answers(ok(`{"access_token":"at","issued_token_type":"urn:ietf:params:oauth:token-type:jwt","token_type":"N_A","expires_in":60}`))
	e := env(srv)
	valid := false
	e.Token = func(name string) (agent.Secret, bool) { return agent.NewSecret("the " + name), valid }
	src, ps := oauth2.New(s, e)
	if src == nil {
		t.Fatal(ps)
	}
	_, err := call(t, src, agent.StepLogin, agent.Session{})
	if e := wantKind(t, err, agent.Transient, `the token "other"`, "renewd status other"); !e.Unsent || srv.count() > 0 {
		t.Error("something was sent")
	}
	valid = true
	login(t, src)
	const typ = "urn:ietf:params:oauth:token-type:"
	for k, want := range map[string]string{"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": "sub-1", "subject_token_type": typ + "access_token",
		"actor_token": "the other", "actor_token_type": typ + "access_token", "requested_token_type": typ + "jwt"} {
		if got := srv.last().form.Get(k); got != want {
			t.Errorf("%s is %q; want %q", k, got, want)
		}
	}
	_, err = call(t, source(t, s, srv), agent.StepLogin, agent.Session{})
	wantKind(t, err, agent.Misconfigured, "there is no agent here")
}

// A changed secret is another credential; what is beside it is not.
func TestCredential(t *testing.T) {
	digest := func(s *oauth2.Spec) agent.Credential {
		at, err := source(t, s, answers(whole(""))).Prepare(t.Context(), agent.StepLogin, agent.Session{})
		if err != nil {
			t.Fatal(err)
		}
		return at.Credential
	}
	a := digest(client(oauth2.ClientCredentials))
	if a.Origin != "https://id.example.com:443" || !strings.HasPrefix(a.Principal, "svc") {
		t.Errorf("credential %q %q", a.Origin, a.Principal)
	}
	s := client(oauth2.ClientCredentials)
	s.Scopes = spec.Strings{"x"}
	if digest(s) != a {
		t.Error("scopes make another credential")
	}
	s.ClientSecret = plain("other")
	if digest(s) == a {
		t.Error("another secret is the same credential")
	}
	if f, g := source(t, s, answers(whole(""))).Traits().Fingerprint, source(t, client(oauth2.ClientCredentials), answers(whole(""))).Traits().Fingerprint; f == g {
		t.Error("other scopes have the same fingerprint")
	}
}

// With a certificate the endpoints for certificates are used (RFC 8705 §5), and
// another certificate is another credential.
func TestCertificate(t *testing.T) {
	p := &provider{dir: t.TempDir()}
	p.certificates(t)
	s := discovering()
	s.ClientSecret, s.TLS = nil, &wire.TLS{CertFile: secret.Path(p.path("client1.pem")), KeyFile: secret.Path(p.path("client1.key"))}
	srv := site(map[string]answer{oidcPlace: document(issuerURL, `,"mtls_endpoint_aliases":{"token_endpoint":"https://mtls.example.com/t"}`)})
	src := source(t, s, srv)
	login(t, src)
	if q := srv.last(); q.url != "https://mtls.example.com/t" || q.form.Get("client_id") != "svc" || q.basic != "" {
		t.Errorf("asked %s with %v", q.url, q.form)
	}
	if files := src.(interface{ Files() []string }).Files(); !slices.Contains(files, p.path("client1.pem")) || !slices.Contains(files, p.path("client1.key")) {
		t.Errorf("files %v", files)
	}
	credential := func() agent.Credential {
		at, err := src.Prepare(t.Context(), agent.StepLogin, agent.Session{})
		if err != nil {
			t.Fatal(err)
		}
		return at.Credential
	}
	before := credential()
	p.write(t, "client1.pem", []byte(p.read(t, "client2.pem")))
	if credential() == before {
		t.Error("another certificate is the same credential")
	}
	_ = os.Remove(p.path("client1.key"))
	_, err := src.Prepare(t.Context(), agent.StepLogin, agent.Session{})
	if e := wantKind(t, err, agent.Misconfigured, "client1.key"); !e.Unsent {
		t.Error("something was sent")
	}
}
