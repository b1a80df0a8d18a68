package oauth2

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"renewd/agent"
	"renewd/agent/source/signer"
	"renewd/agent/source/spec"
	"renewd/agent/source/wire"
)

// New checks s and makes a Source of it, nil after a problem. What it returns is
// an agent.PersonSource where a person can sign in, and an agent.ProofSource
// where tokens are bound to a key.
func New(s *Spec, env *Env) (agent.Source, []spec.Problem) {
	c := &checker{spec: s, src: newSource(s, env), tls: tlsOf(s, env)}
	var problems spec.Problems
	proxy := env.Proxy
	if s.Proxy != "" {
		proxy = s.Proxy
	}
	c.src.client, problems = env.Transports.Client(wire.Settings{TLS: c.tls, Proxy: proxy, NoProxy: env.NoProxy})
	c.problems = problems
	c.grant()
	c.clientAuth()
	c.request()
	c.shared()
	c.src.rules = c.rules(s.Errors)
	if c.src.client != nil {
		c.endpoints()
	}
	if c.problems.Fatal() {
		return nil, c.problems
	}
	c.src.tlsFiles(c.tls)
	c.src.trait()
	return c.src.typed(), c.problems
}

func tlsOf(s *Spec, env *Env) wire.TLS {
	var t wire.TLS
	return t.Over(env.TLS).Over(s.TLS)
}

// checker is one New under way.
type checker struct {
	spec     *Spec
	src      *Source
	tls      wire.TLS
	problems spec.Problems
}

func (c *checker) add(path, hint, format string, args ...any) {
	c.problems.Add(path, format, args...).Hint = hint
}

// grant judges the keys that belong to one grant each.
func (c *checker) grant() {
	s := c.spec
	if s.Grant == "" {
		c.add("", "write grant: and one of: "+strings.Join(Grants(), ", "), "has no grant")
		return
	}
	if !slices.Contains(Grants(), s.Grant) {
		c.add("grant", spec.Meant(s.Grant, Grants()), "unknown grant %q", s.Grant)
		return
	}
	for _, k := range []struct {
		key    string
		given  bool
		grants []string
		needed bool
	}{
		{"refresh_token", s.RefreshToken != nil, []string{RefreshToken}, true},
		{"username", s.Username != "", []string{Password}, true},
		{"password", s.Password != nil, []string{Password}, true},
		{"assertion", s.Assertion != nil, []string{JWTBearer}, true},
		{"subject_token", s.SubjectToken != nil, []string{TokenExchange}, true},
		{"subject_token_type", s.SubjectTokenType != "", []string{TokenExchange}, false},
		{"actor_token", s.ActorToken != nil, []string{TokenExchange}, false},
		{"actor_token_type", s.ActorTokenType != "", []string{TokenExchange}, false},
		{"requested_token_type", s.RequestedTokenType != "", []string{TokenExchange}, false},
		{"redirect_host", s.RedirectHost != "", []string{AuthorizationCode}, false},
		{"redirect_port", s.RedirectPort != 0, []string{AuthorizationCode}, false},
		{"redirect_path", s.RedirectPath != "", []string{AuthorizationCode}, false},
		{"pushed_authorization_url", s.PushedURL != "", []string{AuthorizationCode}, false},
		{"authorization_url", s.AuthorizationURL != "", []string{AuthorizationCode}, false},
		{"device_authorization_url", s.DeviceURL != "", []string{DeviceCode}, false},
	} {
		switch mine := slices.Contains(k.grants, s.Grant); {
		case k.given && !mine:
			c.add(k.key, "", "is for grant %s", strings.Join(k.grants, " and "))
		case !k.given && mine && k.needed:
			c.add("", "add "+k.key, "grant %s needs %s", s.Grant, k.key)
		}
	}
	c.grantSecrets()
}

func (c *checker) grantSecrets() {
	s := c.spec
	for _, r := range s.secrets() {
		if err := r.ref.Check(); err != nil {
			c.add(r.path, "", "%v", err)
		}
	}
	for _, t := range []struct {
		key string
		ref *Subject
	}{{"subject_token", s.SubjectToken}, {"actor_token", s.ActorToken}} {
		if t.ref != nil && t.ref.Token != "" && t.ref.Token == c.src.name {
			c.add(spec.Key(t.key, "token"), "name another token", "a token cannot be exchanged for itself")
		}
	}
	if s.ActorToken != nil && s.ActorTokenType == "" {
		c.src.actorType = tokenTypes + "access_token"
	}
	c.src.subjectType = c.tokenType("subject_token_type", s.SubjectTokenType, "access_token")
	c.src.requestedType = c.tokenType("requested_token_type", s.RequestedTokenType, "")
	if s.ActorTokenType != "" {
		c.src.actorType = c.tokenType("actor_token_type", s.ActorTokenType, "")
	}
	if s.Assertion != nil {
		c.assertion(s.Assertion)
	}
	if s.Grant == AuthorizationCode {
		c.redirect()
	}
}

// tokenType gives the URI of a token type.
func (c *checker) tokenType(path, name, deflt string) string {
	if name == "" {
		name = deflt
	}
	if name == "" || strings.Contains(name, ":") {
		return name
	}
	if !slices.Contains(shortTokenTypes(), name) {
		c.add(path, spec.Meant(name, shortTokenTypes()), "%q is neither a URI nor a known token type", name)
	}
	return tokenTypes + name
}

func (c *checker) assertion(a *Assertion) {
	if a.Value != nil {
		if a.Key != nil || a.Issuer+a.Subject+a.Audience+a.KeyID+a.Algorithm+string(a.Lifetime) != "" || len(a.Claims)+len(a.Headers) > 0 {
			c.add("assertion.value", "leave the other keys out", "an assertion that is made elsewhere is sent as it is")
		}
		return
	}
	if a.Key == nil {
		c.add("assertion", "assertion: {key: {file: …}}, or {value: {file: …}} for one that is made elsewhere", "needs a key to sign with")
	}
	c.algorithm("assertion.algorithm", a.Algorithm)
	var err error
	if c.src.assertionLife, err = a.Lifetime.Parse(); err != nil {
		c.add("assertion.lifetime", "", "%v", err)
	} else if a.Lifetime != "" && c.src.assertionLife < 10*time.Second {
		c.add("assertion.lifetime", "", "a lifetime of at least 10s is needed")
	}
	if c.src.assertionLife == 0 {
		c.src.assertionLife = 5 * time.Minute
	}
	if a.Issuer == "" && c.spec.ClientID == "" {
		c.add("assertion", "assertion: {issuer: …}", "needs an issuer, or a client_id to be it")
	}
}

func (c *checker) algorithm(path, name string) {
	if name != "" && !slices.Contains(signer.Algorithms(), name) {
		c.add(path, spec.Meant(name, signer.Algorithms()), "unknown algorithm %q", name)
	}
}

func (c *checker) redirect() {
	s := c.spec
	switch s.RedirectHost {
	case "", "127.0.0.1", "localhost", "::1":
	default:
		c.add("redirect_host", "127.0.0.1, ::1 or localhost", "%q is not this machine's loopback (RFC 8252 §7.3)", s.RedirectHost)
	}
	if s.RedirectPort < 0 || s.RedirectPort > 65535 {
		c.add("redirect_port", "", "want 0 to 65535")
	}
	if p := s.RedirectPath; p != "" {
		u, err := url.Parse(p)
		if err != nil || !strings.HasPrefix(p, "/") || u.Path != p {
			c.add("redirect_path", "/callback", "is no path")
		}
	}
}

// request judges what is put into requests as it is.
func (c *checker) request() {
	s := c.spec
	if s.ClientID == "" && s.Grant != JWTBearer && s.Grant != TokenExchange && s.Grant != "" {
		c.add("", "add client_id", "has no client_id")
	}
	for i, sc := range s.Scopes {
		at := spec.Index("scopes", i)
		switch {
		case strings.ContainsAny(sc, " ,") && strings.Trim(sc, " ,") != "":
			c.add(at, "scopes: ["+strings.Join(strings.FieldsFunc(sc, func(r rune) bool { return r == ' ' || r == ',' }), ", ")+"]", "one scope holds no space and no comma")
		case sc == "" || strings.ContainsFunc(sc, func(r rune) bool { return r < 0x21 || r > 0x7e || r == '"' || r == '\\' }):
			c.add(at, "", "is no scope (RFC 6749 §3.3)")
		}
	}
	for i, r := range s.Resource {
		if u, err := url.Parse(r); err != nil || !u.IsAbs() || u.Fragment != "" {
			c.add(spec.Index("resource", i), "an absolute URI without a fragment (RFC 8707 §2)", "is no resource")
		}
	}
	own := []string{"grant_type", "response_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "assertion",
		"scope", "audience", "resource", "refresh_token", "username", "password", "subject_token", "subject_token_type", "actor_token",
		"actor_token_type", "requested_token_type", "redirect_uri", "state", "code", "code_challenge", "code_challenge_method", "code_verifier", "device_code"}
	for _, k := range slices.Sorted(maps.Keys(s.Params)) {
		if slices.Contains(own, k) {
			c.add(spec.Key("params", k), "", "is not for params: it is made here, or has a key of its own")
		}
	}
}

// shared judges the keys that all sources have.
func (c *checker) shared() {
	s, src := c.spec, c.src
	s.Lifetime.Check("lifetime", &c.problems)
	s.Session.Check("session", &c.problems)
	s.Rejected.Check("rejected", &c.problems)
	s.Limits.Check("limits", &c.problems)
	if l := s.Lifetime; l != nil {
		src.max, _ = l.Max.Parse()
		src.deflt, _ = l.Default.Parse()
		src.jwt = l.JWT == nil || *l.JWT
	}
	var err error
	if src.present, err = s.Present.Plain(); err != nil {
		c.add("present.value", "", "%v", err)
	}
	if s.DPoP && src.present != nil && src.present.Query != "" {
		c.add("present.query", "leave it out", "a token that is bound to a key goes in a header (RFC 9449 §7)")
	}
	if !slices.Contains([]string{"", "access_token", "id_token"}, s.Token) {
		c.add("token", "access_token or id_token", "unknown word %q", s.Token)
	}
	if units := []string{"s", "ms", "us", "min", "ignore"}; s.ExpiresIn != "" && !slices.Contains(units, s.ExpiresIn) {
		c.add("expires_in", "one of: "+strings.Join(units, ", "), "unknown unit %q", s.ExpiresIn)
	}
	if s.Token == "id_token" && s.DPoP {
		c.add("dpop", "", "an id_token is not bound to a key")
	}
	proofs := []string{"ES256", "ES384", "ES512", "EdDSA", "RS256", "PS256"}
	switch {
	case s.DPoPAlgorithm != "" && !slices.Contains(proofs, s.DPoPAlgorithm):
		c.add("dpop_algorithm", "one of: "+strings.Join(proofs, ", "), "unknown algorithm %q", s.DPoPAlgorithm)
	case s.DPoPAlgorithm != "" && !s.DPoP:
		c.add("dpop_algorithm", "dpop: true", "is for dpop: true")
	}
}

// endpoints judges the URLs that are given and whether all can be found.
func (c *checker) endpoints() {
	s, src := c.spec, c.src
	if s.Issuer != "" {
		if u := c.url("issuer", s.Issuer); u != nil {
			if u.RawQuery != "" {
				c.add("issuer", "", "an issuer has no query")
			}
			src.issuer = src.env.issuers().of(src.client, s.Issuer, u)
		}
	}
	for _, e := range []struct {
		which endpoint
		text  string
	}{{endToken, s.TokenURL}, {endAuthorization, s.AuthorizationURL}, {endDevice, s.DeviceURL}, {endRevocation, s.RevocationURL}, {endPushed, s.PushedURL}} {
		if e.which == endRevocation && e.text == "none" {
			src.noRevocation = true
			continue
		}
		if e.which == endPushed && e.text == "none" {
			src.noPush = true
			continue
		}
		if e.text != "" {
			src.given[e.which] = c.url(e.which.key(), e.text)
		}
	}
	if s.Issuer == "" && s.Grant != "" {
		for _, e := range src.needs() {
			if src.given[e] == nil && e.text(s) == "" {
				c.add("", "give issuer or "+e.key(), "grant %s needs %s, and there is no issuer to ask for it", s.Grant, e.key())
			}
		}
	}
}

func (c *checker) url(path, text string) *url.URL {
	u, err := url.Parse(text)
	if err == nil {
		switch {
		case u.User != nil:
			err = fmt.Errorf("credentials in a URL are not supported")
		case u.Fragment != "" || strings.Contains(text, "#"):
			err = fmt.Errorf("a URL of a server has no fragment")
		default:
			err = c.src.client.CheckURL(u)
		}
	} else {
		err = fmt.Errorf("is no URL")
	}
	if err != nil {
		c.add(path, "", "%v", err)
		return nil
	}
	return u
}
