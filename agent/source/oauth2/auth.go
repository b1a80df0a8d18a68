package oauth2

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	nethttp "net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"renewd/agent"
	"renewd/agent/source/signer"
	"renewd/agent/source/spec"
)

const (
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	// A client assertion lives as long as a request and a clock that is off by
	// a little; iat is put back, since a server of a second ago finds it in
	// its future.
	assertionLife     = 2 * time.Minute
	assertionBackdate = 5 * time.Second
)

// clientAuth judges how the client proves who it is, and tells it from what is
// given where it is not said.
func (c *checker) clientAuth() {
	s, src := c.spec, c.src
	c.algorithm("algorithm", s.Algorithm)
	hasCert := c.tls.CertFile != ""
	switch src.auth = s.ClientAuth; {
	case src.auth != "" && !slices.Contains(ClientAuths(), src.auth):
		c.add("client_auth", spec.Meant(src.auth, ClientAuths()), "unknown client authentication %q", src.auth)
		return
	case src.auth != "":
	case s.ClientAssertion != nil && (s.ClientSecret != nil || s.ClientKey != nil):
		c.add("client_assertion", "leave one out", "client_assertion and another proof of the client are both given")
		return
	case s.ClientAssertion != nil:
		src.auth = authPrivateJWT
	case s.ClientSecret != nil && s.ClientKey != nil:
		c.add("client_key", "leave one out, or say client_auth", "client_secret and client_key are both given")
		return
	case s.ClientKey != nil:
		src.auth = authPrivateJWT
	case s.ClientSecret != nil: // which one is told by the server
	case s.TLS != nil && s.TLS.CertFile != "":
		src.auth = authTLS
	default:
		src.auth = authNone
	}
	secretAuth := strings.HasPrefix(src.auth, "client_secret") || src.auth == ""
	needs := func(missing bool, key string) {
		if missing {
			c.add("client_auth", "add "+key, "%s needs %s", src.auth, key)
		}
	}
	needs(secretAuth && s.ClientSecret == nil, "client_secret")
	needs(src.auth == authPrivateJWT && s.ClientKey == nil && s.ClientAssertion == nil, "client_key")
	needs((src.auth == authTLS || src.auth == authSelfTLS) && !hasCert, "tls: {cert_file: …, key_file: …}")
	if src.auth != authNone && s.ClientID == "" {
		c.add("", "add client_id", "client authentication needs a client_id")
	}
	c.unused(secretAuth)
}

// unused tells of keys that the client authentication does not use.
func (c *checker) unused(secretAuth bool) {
	s, src := c.spec, c.src
	withKey := src.auth == authPrivateJWT && s.ClientAssertion == nil
	for _, k := range []struct {
		key    string
		given  bool
		wanted bool
	}{
		{"client_secret", s.ClientSecret != nil, secretAuth},
		{"client_key", s.ClientKey != nil, withKey},
		{"client_assertion", s.ClientAssertion != nil, src.auth == authPrivateJWT},
		{"key_id", s.KeyID != "", withKey},
		{"algorithm", s.Algorithm != "", withKey || src.auth == authSecretJWT},
		{"assertion_audience", s.AssertionAudience != "", withKey || src.auth == authSecretJWT || src.auth == ""},
	} {
		if k.given && !k.wanted {
			name := src.auth
			if name == "" {
				name = "the default with a client_secret"
			}
			c.add(k.key, "say client_auth: "+strings.Join(c.users(k.key), " or "), "is not used by client_auth %s", name)
		}
	}
	isHS := strings.HasPrefix(s.Algorithm, "HS")
	switch {
	case s.Algorithm == "" || !slices.Contains(signer.Algorithms(), s.Algorithm):
	case src.auth == authSecretJWT && !isHS:
		c.add("algorithm", "HS256, or client_auth: private_key_jwt with client_key", "%s does not sign with a secret", s.Algorithm)
	case src.auth == authPrivateJWT && isHS:
		c.add("algorithm", "RS256, PS256, ES256 or EdDSA, or client_auth: client_secret_jwt", "%s does not sign with a private key", s.Algorithm)
	}
	if s.AssertionAudience == "issuer" && s.Issuer == "" {
		c.add("assertion_audience", "give issuer, or write the audience out", "there is no issuer")
	}
}

func (c *checker) users(key string) []string {
	switch key {
	case "client_secret":
		return []string{authBasic, authPost, authSecretJWT}
	case "client_key", "client_assertion", "key_id":
		return []string{authPrivateJWT}
	}
	return []string{authPrivateJWT, authSecretJWT}
}

// authFor is the authentication to use with a server that knows those in auths
// (nil: it did not say, which means Basic: RFC 8414 §2).
func (s *Source) authFor(auths []string) string {
	if s.auth != "" {
		return s.auth
	}
	for _, a := range []string{authBasic, authPost, authSecretJWT} {
		if slices.Contains(auths, a) {
			return a
		}
	}
	return authBasic
}

// authenticate adds to a request what proves the client.
func (x *exchange) authenticate(p *place, form url.Values, header nethttp.Header, now time.Time) error {
	s := x.src.spec
	auth := x.src.authFor(p.auths)
	if auth == authBasic {
		// Both are form-encoded first (RFC 6749 §2.3.1), so that a colon in them
		// stays theirs.
		pair := url.QueryEscape(s.ClientID) + ":" + url.QueryEscape(x.mat.clientSecret)
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
		return nil
	}
	if s.ClientID != "" {
		form.Set("client_id", s.ClientID)
	}
	switch auth {
	case authPost:
		form.Set("client_secret", x.mat.clientSecret)
	case authSecretJWT, authPrivateJWT:
		assertion, err := x.clientAssertion(auth, p.aud, now)
		if err != nil {
			return err
		}
		form.Set("client_assertion_type", assertionType)
		form.Set("client_assertion", assertion)
	}
	return nil
}

// clientAssertion signs who the client is (RFC 7523 §3) unless something else has,
// anew for each try: a server takes a jti once.
func (x *exchange) clientAssertion(auth, audience string, now time.Time) (string, error) {
	if x.mat.clientAssertion != "" {
		return x.mat.clientAssertion, nil
	}
	x.signed = true
	s := x.src.spec
	t := signer.Token{Algorithm: x.mat.clientAlgorithm, Key: x.mat.clientKey, KeyID: s.KeyID, Now: now, Lifetime: assertionLife, Backdate: assertionBackdate,
		Claims: map[string]any{"iss": s.ClientID, "sub": s.ClientID, "aud": audience, "jti": newID()}}
	if auth == authSecretJWT {
		if t.Algorithm = s.Algorithm; t.Algorithm == "" {
			t.Algorithm = "HS256"
		}
		var err error
		if t.Key, err = signer.ParseKey(t.Algorithm, []byte(x.mat.clientSecret)); err != nil {
			return "", fmt.Errorf("client_secret: %w", err)
		}
	}
	return signer.Sign(t)
}

// newID is what makes a signed token unique.
func newID() string { return random(16) }

// random is n octets of it, as text for a URL.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// unbuilt is an error of what could not be made, so was never sent.
func unbuilt(step agent.Step, err error) *agent.Error {
	return &agent.Error{Kind: agent.Misconfigured, Step: step, Detail: err.Error(), Unsent: true, Err: err}
}
