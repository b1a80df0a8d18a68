package oauth2_test

import (
	"strings"
	"testing"

	"renewd/agent/secret"
	"renewd/agent/source/oauth2"
	"renewd/agent/source/spec"
	"renewd/agent/source/wire"
)

// What an admin gets wrong is said with its place and what to write.
func TestProblems(t *testing.T) {
	key := pemKey(t, "ES256")
	for _, c := range []struct {
		grant string
		spec  func(s *oauth2.Spec)
		want  string
	}{
		{"", func(s *oauth2.Spec) { s.TokenURL = "" }, "has no grant"},
		{"client_credentials", func(s *oauth2.Spec) { s.TokenURL, s.Issuer = "", "id.example.com" }, "issuer: the URL names no host; write https://HOST"},
		{"client_credential", nil, "did you mean client_credentials?"},
		{"client_credentials", func(s *oauth2.Spec) { s.ClientID = "" }, "has no client_id"},
		{"client_credentials", func(s *oauth2.Spec) { s.TokenURL = "" }, "give issuer or token_url"},
		{"client_credentials", func(s *oauth2.Spec) { s.TokenURL = "http://id.example.com/t" }, "token_url: http:// to id.example.com:80 would send credentials without encryption"},
		{"client_credentials", func(s *oauth2.Spec) { s.TokenURL = "https://u:hunter2@id.example.com/t" }, "token_url: credentials in a URL are not supported"},
		{"client_credentials", func(s *oauth2.Spec) { s.Issuer = "https://id.example.com?x=1" }, "issuer: an issuer has no query"},
		{"client_credentials", func(s *oauth2.Spec) { s.Password = plain("x") }, "password: is for grant password"},
		{"client_credentials", func(s *oauth2.Spec) { s.RedirectPort = 1 }, "redirect_port: is for grant authorization_code"},
		{"client_credentials", func(s *oauth2.Spec) { s.Scopes = spec.Strings{"read write"} }, "scopes[0]: one scope holds no space and no comma (scopes: [read, write])"},
		{"client_credentials", func(s *oauth2.Spec) { s.Resource = spec.Strings{"api"} }, "resource[0]: is no resource"},
		{"client_credentials", func(s *oauth2.Spec) { s.Params = map[string]spec.Strings{"scope": {"x"}} }, "params.scope: is not for params"},
		{"client_credentials", func(s *oauth2.Spec) { s.ClientSecret = &secret.Ref{} }, "client_secret: the secret is empty"},
		{"client_credentials", func(s *oauth2.Spec) { s.ClientAuth = "basic" }, "client_auth: unknown client authentication"},
		{"client_credentials", func(s *oauth2.Spec) { s.ClientAuth = "private_key_jwt" }, "private_key_jwt needs client_key"},
		{"client_credentials", func(s *oauth2.Spec) { s.ClientAuth = "none" }, "client_secret: is not used by client_auth none (say client_auth: client_secret_basic or"},
		{"client_credentials", func(s *oauth2.Spec) { s.ClientAuth, s.ClientSecret = "tls_client_auth", nil }, "tls_client_auth needs tls: {cert_file"},
		{"client_credentials", func(s *oauth2.Spec) { s.ClientKey = plain(key) }, "client_secret and client_key are both given"},
		{"client_credentials", func(s *oauth2.Spec) { s.Algorithm = "RS256" }, "algorithm: is not used by client_auth the default with a client_secret"},
		{"client_credentials", func(s *oauth2.Spec) { s.ClientAuth, s.Algorithm = "client_secret_jwt", "RS256" }, "RS256 does not sign with a secret"},
		{"client_credentials", func(s *oauth2.Spec) { s.ClientSecret, s.ClientKey, s.Algorithm = nil, plain(key), "HS256" }, "HS256 does not sign with a private key"},
		{"client_credentials", func(s *oauth2.Spec) { s.ClientSecret, s.ClientKey, s.Algorithm = nil, plain(key), "RS265" }, "did you mean RS256?"},
		{"client_credentials", func(s *oauth2.Spec) { s.ClientAuth, s.AssertionAudience = "client_secret_jwt", "issuer" }, "assertion_audience: there is no issuer"},
		{"client_credentials", func(s *oauth2.Spec) { s.ExpiresIn = "hours" }, "expires_in: unknown unit"},
		{"client_credentials", func(s *oauth2.Spec) { s.Token = "refresh_token" }, "token: unknown word"},
		{"client_credentials", func(s *oauth2.Spec) { s.DPoPAlgorithm = "ES256" }, "dpop_algorithm: is for dpop: true"},
		{"client_credentials", func(s *oauth2.Spec) { s.DPoP, s.DPoPAlgorithm = true, "HS256" }, "dpop_algorithm: unknown algorithm"},
		{"client_credentials", func(s *oauth2.Spec) { s.Errors = []oauth2.Rule{{Present: []string{""}, Means: "rejected"}} }, "errors[0].present: the empty pointer is the whole answer"},
		{"client_credentials", func(s *oauth2.Spec) { s.Errors = []oauth2.Rule{{Means: "rejected"}} }, "errors[0]: the rule tests nothing"},
		{"client_credentials", func(s *oauth2.Spec) { s.Errors = []oauth2.Rule{{Code: spec.Strings{"x"}, Means: "reject"}} }, "errors[0].means: unknown kind \"reject\" (did you mean rejected?)"},
		{"client_credentials", func(s *oauth2.Spec) {
			p := "a"
			s.Errors = []oauth2.Rule{{Pointer: &p, Matches: "x", Means: "rejected"}}
		}, "errors[0].pointer: a pointer begins with /"},
		{"client_credentials", func(s *oauth2.Spec) { p := "/a"; s.Errors = []oauth2.Rule{{Pointer: &p, Means: "rejected"}} }, "errors[0]: pointer needs equals or matches"},
		{"client_credentials", func(s *oauth2.Spec) {
			s.Errors = []oauth2.Rule{{Code: spec.Strings{"x"}, Matches: "(", Means: "rejected"}}
		}, "errors[0].matches: is no regular expression"},
		{"client_credentials", func(s *oauth2.Spec) {
			s.Errors = []oauth2.Rule{{Code: spec.Strings{"x"}, Matches: "x", Means: "rejected"}}
		}, "errors[0]: equals and matches need a pointer"},
		{"client_credentials", func(s *oauth2.Spec) { s.ClientAssertion = plain(key) }, "client_assertion: client_assertion and another proof of the client are both given"},
		{"client_credentials", func(s *oauth2.Spec) { s.ClientSecret, s.ClientAssertion, s.KeyID = nil, plain(key), "k" }, "key_id: is not used"},
		{"client_credentials", func(s *oauth2.Spec) { s.Lifetime = &spec.Lifetime{Default: "4"} }, "lifetime.default: "},
		{"client_credentials", func(s *oauth2.Spec) { s.Session = &spec.Session{Overlap: "some"} }, "session.overlap: "},
		{"client_credentials", func(s *oauth2.Spec) { s.Present = &spec.Present{Value: "x"} }, "present.value: "},
		{"client_credentials", func(s *oauth2.Spec) { s.TLS = &wire.TLS{CAFile: "/nonexistent"} }, "tls.ca_file: "},
		{"refresh_token", nil, "grant refresh_token needs refresh_token"},
		{"password", func(s *oauth2.Spec) { s.Username = "bob" }, "grant password needs password"},
		{"jwt_bearer", nil, "grant jwt_bearer needs assertion"},
		{"jwt_bearer", func(s *oauth2.Spec) { s.Assertion = &oauth2.Assertion{} }, "assertion: needs a key to sign with"},
		{"jwt_bearer", func(s *oauth2.Spec) { s.Assertion = &oauth2.Assertion{Value: plain(key), Key: plain(key)} }, "assertion.value: an assertion that is made elsewhere is sent as it is"},
		{"jwt_bearer", func(s *oauth2.Spec) { s.Assertion = &oauth2.Assertion{Key: plain(key), Algorithm: "none"} }, "assertion.algorithm: unknown algorithm"},
		{"jwt_bearer", func(s *oauth2.Spec) { s.Assertion = &oauth2.Assertion{Key: plain(key), Lifetime: "1s"} }, "assertion.lifetime: a lifetime of at least 10s"},
		{"jwt_bearer", func(s *oauth2.Spec) {
			s.ClientID, s.ClientSecret, s.Assertion = "", nil, &oauth2.Assertion{Key: plain(key)}
		}, "assertion: needs an issuer"},
		{"token_exchange", nil, "grant token_exchange needs subject_token"},
		{"token_exchange", func(s *oauth2.Spec) { s.SubjectToken = &oauth2.Subject{Token: "t"} }, "a token cannot be exchanged for itself"},
		{"token_exchange", func(s *oauth2.Spec) { s.SubjectToken, s.SubjectTokenType = &oauth2.Subject{Token: "u"}, "acces_token" }, "did you mean access_token?"},
		{"device_code", nil, "give issuer or device_authorization_url"},
		{"authorization_code", nil, "give issuer or authorization_url"},
		{"authorization_code", func(s *oauth2.Spec) { s.RedirectHost = "example.com" }, "is not this machine's loopback"},
		{"authorization_code", func(s *oauth2.Spec) { s.RedirectPath = "cb" }, "redirect_path: is no path"},
		{"authorization_code", func(s *oauth2.Spec) { s.RedirectPort = 70000 }, "redirect_port: want 0 to 65535"},
	} {
		s := client(c.grant)
		if c.spec != nil {
			c.spec(s)
		}
		got := problems(s)
		if strings.Contains(got, "grant  ") || !strings.Contains(got, c.want) || strings.Contains(got, hidden) {
			t.Errorf("%s: got %q; want %q", c.grant, got, c.want)
		}
	}
}
