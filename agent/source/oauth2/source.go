package oauth2

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"renewd/agent"
	"renewd/agent/secret"

	"renewd/agent/source/wire"
)

// Env is what a Source gets from the process around it.
type Env struct {
	Name       string           // of the token, for hints
	Now        agent.Clock      // the one that Transports have; nil: the wall clock
	Secrets    *secret.Resolver // nil: one without memory
	Transports *wire.Transports // shared by all sources; required
	Issuers    *Issuers         // shared, so that an issuer is asked once; nil: the Source's own

	// Token gives the value of another token of this agent, ok false where none
	// is valid now. Nil: there is no agent.
	Token func(name string) (token agent.Secret, ok bool)

	// The config's `defaults`; the Spec's own keys go over them.
	TLS     *wire.TLS
	Proxy   string
	NoProxy []string
}

func (e *Env) clock() agent.Clock {
	if e.Now != nil {
		return e.Now
	}
	start := time.Now()
	return func() agent.Instant { n := time.Now(); return agent.Instant{Wall: n, Boot: n.Sub(start)} }
}

func (e *Env) issuers() *Issuers {
	if e.Issuers != nil {
		return e.Issuers
	}
	return &Issuers{}
}

// Source is one token's source.
type Source struct {
	spec    *Spec
	env     *Env
	name    string
	clock   agent.Clock
	client  *wire.Client
	issuer  *issuer // nil: the endpoints are given
	given   [endpoints]*url.URL
	rules   []rule
	traits  agent.Traits
	present *agent.Presentation
	auth    string   // as declared or told from what is given; "": any with a secret
	files   []string // of the client certificate

	noRevocation  bool
	noPush        bool
	subjectType   string
	actorType     string
	requestedType string
	assertionLife time.Duration
	max, deflt    time.Duration // of an access token's life
	jwt           bool

	rotated atomic.Bool // a refresh brought another refresh token

	mu     sync.Mutex
	nonces map[string]string // DPoP-Nonce by origin (RFC 9449 §8.2)
}

func newSource(s *Spec, env *Env) *Source {
	return &Source{spec: s, env: env, name: env.Name, clock: env.clock(), jwt: true}
}

// person is a Source that a person can sign in to.
type person struct{ *Source }

// prover is a Source whose tokens are bound to a key.
type prover struct{ *Source }

// personProver is both.
type personProver struct{ *Source }

// typed gives s the methods that it can keep the promise of.
func (s *Source) typed() agent.Source {
	signs := s.spec.Grant == DeviceCode || s.spec.Grant == AuthorizationCode
	switch {
	case signs && s.spec.DPoP:
		return personProver{s}
	case signs:
		return person{s}
	case s.spec.DPoP:
		return prover{s}
	}
	return s
}

// Traits implements agent.Source.
func (s *Source) Traits() *agent.Traits { return &s.traits }

func (s *Source) trait() {
	sp := s.spec
	t := agent.Traits{Type: "oauth2", Fingerprint: s.fingerprint(), Presentation: s.presentation(), Life: s.max}
	if t.Life == 0 {
		t.Life = s.deflt
	}
	t.NeedsPerson = slices.Contains([]string{RefreshToken, DeviceCode, AuthorizationCode}, sp.Grant)
	t.SelfStart = sp.Grant == RefreshToken
	// What these two begin with can always be had again, so a refresh token of
	// theirs is of no use (RFC 6749 §4.4.3).
	t.CanRefresh = sp.Grant != ClientCredentials && sp.Grant != JWTBearer
	t.CanLogout = !s.noRevocation && (s.given[endRevocation] != nil || s.issuer != nil)
	if v := sp.Session; v != nil {
		t.Session.MaxAge, _ = v.MaxAge.Parse()
		t.Session.Idle, _ = v.Idle.Parse()
		t.Session.MaxRefreshes = deref(v.MaxRefreshes)
		t.OverlapNone, t.Rotates, t.ReuseSafe = v.Overlap == "none", deref(v.Rotates), deref(v.ReuseSafe)
	}
	if v := sp.Rejected; v != nil {
		t.Rejected.Tries = deref(v.Tries)
		t.Rejected.Probe, _ = v.Probe.Parse()
	}
	if v := sp.Limits; v != nil {
		r := deref(v.Requests)
		t.Limits = agent.HostLimits{Concurrency: deref(v.Concurrency), Requests: r.N, Per: r.Per}
	}
	for _, u := range append([]*url.URL{s.home()}, s.given[endToken], s.given[endDevice]) {
		if u == nil {
			continue
		}
		if names := s.client.Host(u).Names; !slices.Contains(t.Hosts, names[0]) {
			t.Hosts = append(slices.Clip(t.Hosts), names...)
		}
	}
	s.traits = t
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// home is the URL whose origin a login is counted against. It does not depend
// on what discovery found.
func (s *Source) home() *url.URL {
	if u := s.given[endToken]; u != nil {
		return u
	}
	return s.issuer.url
}

// presentation is how tokens are shown to their API (RFC 9449 §7.1).
func (s *Source) presentation() *agent.Presentation {
	if !s.spec.DPoP || s.present != nil && s.present.Value != nil {
		return s.present
	}
	p := agent.Presentation{Header: "Authorization"}
	if s.present != nil && s.present.Header != "" {
		p.Header = s.present.Header
	}
	p.Value = func(token string, _ map[string]string) string { return "DPoP " + token }
	return &p
}

// fingerprint is of all that makes another session; secrets are no part of it.
func (s *Source) fingerprint() string {
	sp := s.spec
	var assertion Assertion
	if sp.Assertion != nil {
		assertion = *sp.Assertion
		assertion.Key = nil
	}
	var subject, actor string
	if sp.SubjectToken != nil {
		subject = sp.SubjectToken.Token
	}
	if sp.ActorToken != nil {
		actor = sp.ActorToken.Token
	}
	b, err := json.Marshal([]any{"oauth2", sp.Issuer, sp.TokenURL, sp.AuthorizationURL, sp.DeviceURL, sp.Grant, sp.ClientID, sp.Scopes,
		sp.Audience, sp.Resource, sp.Params, sp.Username, assertion.Issuer, assertion.Subject, assertion.Audience, assertion.Claims,
		subject, s.subjectType, actor, s.requestedType, sp.DPoP, sp.Token})
	if err != nil { // a claim that JSON cannot hold: it will not be signed either
		b = []byte(sp.Issuer + sp.TokenURL + sp.Grant + sp.ClientID)
	}
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// principal is who logs in.
func (s *Source) principal() string {
	sp := s.spec
	p := sp.ClientID + "\x1f" + sp.Username
	if sp.Assertion != nil {
		p += "\x1f" + sp.Assertion.Issuer + "\x1f" + sp.Assertion.Subject
	}
	return p
}

// Prepare implements agent.Source.
func (s *Source) Prepare(ctx context.Context, step agent.Step, session agent.Session) (*agent.Attempt, error) {
	x := &exchange{src: s, step: step, session: session}
	switch step {
	case agent.StepLogin:
		if s.traits.NeedsPerson {
			return nil, s.needsPerson()
		}
	case agent.StepRefresh:
		if !s.traits.CanRefresh {
			return nil, agent.ErrPassedOver
		}
		if err := x.findRefreshToken(ctx); err != nil {
			return nil, err
		}
	default:
		if !s.traits.CanLogout || session.Token.IsZero() && session.RefreshToken.IsZero() {
			return nil, agent.ErrPassedOver
		}
	}
	if err := x.load(ctx); err != nil {
		return nil, err
	}
	a := &agent.Attempt{Credential: x.credential(), Spends: step == agent.StepRefresh && s.rotates(x.state)}
	a.Send = func(ctx context.Context) (*agent.Grant, error) {
		if step == agent.StepLogout {
			return x.revoke(ctx)
		}
		g, err := x.token(ctx)
		return g, spent(err, a.Spends)
	}
	return a, nil
}

// rotates says whether a refresh spends its refresh token: where that is
// declared, else where a new one was seen.
func (s *Source) rotates(p private) bool {
	if v := s.spec.Session; v != nil && v.Rotates != nil {
		return *v.Rotates
	}
	return p.Rotates || s.rotated.Load()
}

func (s *Source) needsPerson() *agent.Error {
	e := &agent.Error{Kind: agent.NeedsHuman, Step: agent.StepLogin, Unsent: true, Detail: "a person has to sign in", Hint: s.loginHint()}
	if s.spec.Grant == RefreshToken {
		e.Detail, e.Hint = "no login can be done with what is given", "give a new refresh_token"
	}
	return e
}

func (s *Source) loginHint() string {
	if s.spec.Grant == RefreshToken {
		return "give a new refresh_token"
	}
	if s.name == "" {
		return "run: renewd login NAME"
	}
	return "run: renewd login " + s.name
}

// spent makes ambiguous what spent something and got no whole answer. An error
// that judges an answer has no cause.
func spent(err error, spends bool) error {
	e, ok := errors.AsType[*agent.Error](err)
	if !ok || !spends || e.Unsent || e.Err == nil {
		return err
	}
	c := *e
	c.Kind = agent.Ambiguous
	return &c
}

// at gives an error the step that it came in. It changes none: several may
// share it.
func at(err error, step agent.Step) *agent.Error {
	e, ok := errors.AsType[*agent.Error](err)
	if !ok {
		return &agent.Error{Kind: agent.Transient, Step: step, Detail: "the request failed", Err: err}
	}
	c := *e
	c.Step = step
	return &c
}

// key gives the path of an endpoint's URL in the config.
func (e endpoint) key() string {
	return [...]string{"token_url", "authorization_url", "device_authorization_url", "revocation_url", "pushed_authorization_url"}[e]
}

// text is what the config says of an endpoint.
func (e endpoint) text(s *Spec) string {
	return [...]string{s.TokenURL, s.AuthorizationURL, s.DeviceURL, s.RevocationURL, s.PushedURL}[e]
}

// needs are the endpoints that the grant cannot do without.
func (s *Source) needs() []endpoint {
	switch s.spec.Grant {
	case DeviceCode:
		return []endpoint{endToken, endDevice}
	case AuthorizationCode:
		return []endpoint{endToken, endAuthorization}
	}
	return []endpoint{endToken}
}
