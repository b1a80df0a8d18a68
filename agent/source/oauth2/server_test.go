package oauth2_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"math/big"
	nethttp "net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/oauth2"
	"renewd/agent/source/signer"
	"renewd/agent/source/wire"
)

// provider is a real OpenID provider, oidc-provider of npm.
type provider struct {
	issuer string
	dir    string
	http   *nethttp.Client // that trusts it
	keys   map[string]string
}

// providerDir is where oidc-provider is installed; without it the test is
// skipped, or fails where RENEWD_REQUIRE wants it.
func providerDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("RENEWD_OIDC")
	if dir == "" {
		dir, _ = filepath.Abs("../../../.cache/tools/oidc")
	}
	_, err := os.Stat(filepath.Join(dir, "node_modules", "oidc-provider"))
	if err == nil {
		_, err = exec.LookPath("node")
	}
	if err == nil {
		return dir
	}
	if slices.Contains(strings.Split(os.Getenv("RENEWD_REQUIRE"), ","), "oidc") {
		t.Fatalf("oidc-provider is required: %v", err)
	}
	t.Skipf("oidc-provider is not here: %v", err)
	return ""
}

const oddSecret = "p+a/s:s%20w&rd= x"

// startProvider runs it with all clients of these tests.
func startProvider(t *testing.T) *provider {
	t.Helper()
	tools := providerDir(t)
	p := &provider{dir: t.TempDir(), keys: map[string]string{}}
	ca := p.certificates(t)
	for _, alg := range []string{"RS256", "PS256", "ES256", "EdDSA"} {
		p.keys[alg] = pemKey(t, strings.Replace(alg, "PS", "RS", 1))
	}
	config := map[string]any{"access": 60, "refresh": 600, "device": 60, "clients": p.clients(t),
		"bearer": map[string]any{"issuer": "svc@lab.test", "jwk": publicJWK(t, "RS256", p.keys["RS256"])},
		"tls":    map[string]string{"key": p.read(t, "server.key"), "cert": p.read(t, "server.pem"), "ca": p.read(t, "ca.pem")}}
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "config.json", b)
	script, err := os.ReadFile("testdata/oidc/op.mjs")
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "op.mjs", script)
	if err := os.Symlink(filepath.Join(tools, "node_modules"), filepath.Join(p.dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	p.run(t)
	jar, _ := cookiejar.New(nil)
	p.http = &nethttp.Client{Timeout: 10 * time.Second, Jar: jar, Transport: &nethttp.Transport{TLSClientConfig: &tls.Config{RootCAs: ca}}}
	return p
}

func (p *provider) run(t *testing.T) {
	t.Helper()
	c := exec.Command("node", "--no-warnings", filepath.Join(p.dir, "op.mjs"), filepath.Join(p.dir, "config.json"))
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	c.Stderr = &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if t.Failed() {
			t.Logf("the provider said:\n%s", said.String())
		}
	})
	lines := make(chan string, 1)
	go func() {
		s := bufio.NewScanner(out)
		for s.Scan() {
			if strings.HasPrefix(s.Text(), "{") {
				lines <- s.Text()
				break
			}
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	select {
	case line := <-lines:
		var ready struct{ Issuer string }
		if err := json.Unmarshal([]byte(line), &ready); err != nil {
			t.Fatal(err)
		}
		p.issuer = ready.Issuer
	case <-time.After(30 * time.Second):
		t.Fatal("the provider did not start")
	}
}

func (p *provider) path(name string) string { return filepath.Join(p.dir, name) }

func (p *provider) read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(p.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (p *provider) write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(p.path(name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// certificates makes a CA, and what it and nobody signs.
func (p *provider) certificates(t *testing.T) *x509.CertPool {
	t.Helper()
	serial := int64(0)
	issue := func(name string, c *x509.Certificate, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		serial++
		c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(serial), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		c.Subject = pkix.Name{CommonName: name}
		if parent == nil {
			parent, by = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		k, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		p.write(t, name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		p.write(t, name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k}))
		made, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return made, key
	}
	ca, key := issue("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	issue("server", &x509.Certificate{DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, ca, key)
	for _, name := range []string{"client1", "client2"} {
		issue(name, &x509.Certificate{DNSNames: []string{name + ".lab.test"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca, key)
	}
	issue("self", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, nil, nil)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return pool
}

func publicJWK(t *testing.T, algorithm, key string) map[string]any {
	t.Helper()
	k, err := signer.ParseKey(algorithm, []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := k.PublicJWK()
	if err != nil {
		t.Fatal(err)
	}
	jwk["use"] = "sig"
	return jwk
}

// clients are registered by their ids; the secret of one is its id and a tail.
func (p *provider) clients(t *testing.T) (all []map[string]any) {
	const urn = "urn:ietf:params:oauth:grant-type:"
	add := func(id, auth string, grants []string, more map[string]any) {
		c := map[string]any{"client_id": id, "token_endpoint_auth_method": auth, "grant_types": grants, "redirect_uris": []string{}, "response_types": []string{}}
		if strings.HasPrefix(auth, "client_secret") {
			c["client_secret"] = secretOf(id)
		}
		for k, v := range more {
			c[k] = v
		}
		all = append(all, c)
	}
	cc := []string{"client_credentials", "password", "refresh_token"} // these two to see each authentication refresh
	add("basic", "client_secret_basic", cc, nil)
	add("odd", "client_secret_basic", cc, map[string]any{"client_secret": oddSecret})
	add("post", "client_secret_post", cc, nil)
	add("hs", "client_secret_jwt", cc, nil)
	for alg, key := range p.keys {
		add("pk-"+alg, "private_key_jwt", cc, map[string]any{"token_endpoint_auth_signing_alg": alg, "jwks": map[string]any{"keys": []any{publicJWK(t, alg, key)}}})
	}
	add("mtls", "tls_client_auth", cc, map[string]any{"tls_client_auth_san_dns": "client1.lab.test", "tls_client_certificate_bound_access_tokens": true})
	block, _ := pem.Decode([]byte(p.read(t, "self.pem")))
	self := publicJWK(t, "ES256", p.read(t, "self.key"))
	self["x5c"] = []string{base64.StdEncoding.EncodeToString(block.Bytes)}
	add("self", "self_signed_tls_client_auth", cc, map[string]any{"jwks": map[string]any{"keys": []any{self}}})
	add("dpop", "client_secret_basic", cc, map[string]any{"dpop_bound_access_tokens": true, "x_nonce": true})
	add("rs", "client_secret_basic", []string{}, nil)
	add("pw", "client_secret_basic", []string{"password", "refresh_token"}, map[string]any{"x_keep": true, "response_types": []string{}})
	add("exchange", "client_secret_basic", []string{urn + "token-exchange"}, nil)
	add("bearer", "none", []string{urn + "jwt-bearer"}, nil)
	add("device", "none", []string{urn + "device_code", "refresh_token"}, map[string]any{"application_type": "native"})
	code := map[string]any{"application_type": "native", "redirect_uris": []string{"http://127.0.0.1/callback"}, "response_types": []string{"code"}}
	add("native", "none", []string{"authorization_code", "refresh_token"}, code)
	bound := map[string]any{"dpop_bound_access_tokens": true, "x_nonce": true, "require_pushed_authorization_requests": true}
	for k, v := range code {
		bound[k] = v
	}
	add("native-dpop", "none", []string{"authorization_code", "refresh_token"}, bound)
	return all
}

func secretOf(id string) *string {
	s := id + "-secret-0123456789abcdef0123456789abcdef"
	return &s
}

// spec is a Spec of one client of the provider.
func (p *provider) spec(id, grant string) *oauth2.Spec {
	return &oauth2.Spec{Issuer: p.issuer, Grant: grant, ClientID: id, TLS: &wire.TLS{CAFile: secret.Path(p.path("ca.pem"))}}
}

func (p *provider) confidential(id, grant string) *oauth2.Spec {
	s := p.spec(id, grant)
	s.ClientSecret = plain(*secretOf(id))
	return s
}

// source makes a Source that speaks to the provider over the network.
func (p *provider) source(t *testing.T, s *oauth2.Spec, token func(string) (agent.Secret, bool)) agent.Source {
	t.Helper()
	return p.sourceAt(t, s, token, clock)
}

// sourceAt is source on a machine with another clock.
func (p *provider) sourceAt(t *testing.T, s *oauth2.Spec, token func(string) (agent.Secret, bool), clock agent.Clock) agent.Source {
	t.Helper()
	src, problems := oauth2.New(s, &oauth2.Env{Name: "t", Now: clock, Secrets: secret.NewResolver(), Token: token,
		Transports: wire.NewTransports(wire.Options{Clock: clock})})
	if src == nil {
		t.Fatal(problems)
	}
	return src
}

// active asks the provider whether it accepts a token (RFC 7662).
func (p *provider) active(t *testing.T, token agent.Secret) bool {
	t.Helper()
	req, _ := nethttp.NewRequest("POST", p.issuer+"/token/introspection", strings.NewReader(url.Values{"token": {token.Reveal()}}.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("rs", *secretOf("rs"))
	resp, err := p.http.Do(req)
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

var (
	formAction = regexp.MustCompile(`<form[^>]*action="([^"]+)"`)
	formPrompt = regexp.MustCompile(`name="prompt" value="(\w+)"`)
	formXSRF   = regexp.MustCompile(`name="xsrf" value="([^"]+)"`)
)

// approve is the person at the browser: signs in, consents, confirms a code, and
// follows what they are sent to, here too. It gives the last page.
func (p *provider) approve(t *testing.T, start, userCode string) string {
	t.Helper()
	return p.answer(t, start, url.Values{"confirm": {"yes"}, "user_code": {userCode}})
}

// answer is the person who says something else to the code.
func (p *provider) answer(t *testing.T, start string, says url.Values) string {
	t.Helper()
	resp, err := p.http.Get(start)
	for range 10 {
		if err != nil {
			t.Error(err)
			return ""
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		page := string(b)
		action, prompt, xsrf := formAction.FindStringSubmatch(page), formPrompt.FindStringSubmatch(page), formXSRF.FindStringSubmatch(page)
		if action == nil || prompt == nil && xsrf == nil || says.Has("abort") && strings.Contains(page, "was interrupted") {
			return page
		}
		var form url.Values
		if prompt != nil {
			form = url.Values{"prompt": {prompt[1]}, "login": {"alice"}, "password": {"x"}}
		} else {
			form = url.Values{"xsrf": {xsrf[1]}}
			maps.Copy(form, says)
		}
		to, _ := resp.Request.URL.Parse(action[1])
		resp, err = p.http.PostForm(to.String(), form)
	}
	t.Errorf("the browser goes in circles: %s", start)
	return ""
}
