package oauth2

import (
	"context"
	"encoding/json"
	nethttp "net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"renewd/agent"
	"renewd/agent/source/wire"
)

// endpoint is one of the URLs of an authorization server.
type endpoint int

const (
	endToken endpoint = iota
	endAuthorization
	endDevice
	endRevocation
	endPushed
	endpoints // their number
)

// member is the endpoint's name in a discovery document (RFC 8414 §2, RFC 9126 §5).
func (e endpoint) member() string {
	return [...]string{"token_endpoint", "authorization_endpoint", "device_authorization_endpoint", "revocation_endpoint",
		"pushed_authorization_request_endpoint"}[e]
}

const (
	documentAge  = 24 * time.Hour
	documentNew  = time.Minute     // a document younger than this is not fetched again
	documentWait = 5 * time.Minute // between tries to replace an old one
)

// Issuers are the discovery documents of a process, each fetched once for all
// who need it. The zero Issuers is empty and ready.
type Issuers struct {
	mu    sync.Mutex
	known map[issuerKey]*issuer
}

type issuerKey struct {
	client *wire.Client
	name   string
}

func (i *Issuers) of(client *wire.Client, name string, u *url.URL) *issuer {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.known == nil {
		i.known = map[issuerKey]*issuer{}
	}
	k := issuerKey{client, name}
	if i.known[k] == nil {
		i.known[k] = &issuer{name: name, url: u, client: client, turn: make(chan struct{}, 1)}
	}
	return i.known[k]
}

// issuer is one of them.
type issuer struct {
	name   string
	url    *url.URL
	client *wire.Client
	turn   chan struct{} // who fetches holds it

	mu    sync.Mutex
	doc   *document
	until time.Duration // when doc is to be fetched anew, on the boot clock
	since time.Duration // when it was fetched

	failed   error // of the last fetch,
	failedAt time.Duration
}

// document is what is read of a discovery document.
type document struct {
	urls    [endpoints]*url.URL // nil: not named
	aliases [endpoints]*url.URL // for clients with a certificate (RFC 8705 §5)
	auths   []string            // nil: not said
	iss     bool                // answers to the browser name their issuer (RFC 9207)
}

// get gives the document, fetching it where it is missing or old. One that is
// old goes on being used while no newer one can be had.
func (i *issuer) get(ctx context.Context, now agent.Clock) (*document, error) {
	current := func() (*document, bool) {
		i.mu.Lock()
		defer i.mu.Unlock()
		return i.doc, i.doc != nil && now().Boot < i.until
	}
	if doc, ok := current(); ok {
		return doc, nil
	}
	began := now().Boot
	select {
	case i.turn <- struct{}{}:
		defer func() { <-i.turn }()
	case <-ctx.Done():
		return nil, &agent.Error{Kind: agent.Transient, Detail: "the discovery document did not come in time", Unsent: true, Err: ctx.Err()}
	}
	old, ok := current()
	if ok {
		return old, nil
	}
	if err := i.failedSince(began); err != nil && old == nil {
		return nil, err // those who waited for a fetch that failed do not each fail anew
	}
	doc, err := i.fetch(ctx, now)
	i.mu.Lock()
	defer i.mu.Unlock()
	if err != nil && old != nil {
		i.until = now().Boot + documentWait
		return old, nil
	}
	if err != nil {
		i.failed, i.failedAt = err, now().Boot
		return nil, err
	}
	i.doc, i.since, i.until = doc, now().Boot, now().Boot+documentAge
	return doc, nil
}

// failedSince is the error of a fetch that ended after a time, nil if none did.
func (i *issuer) failedSince(began time.Duration) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.failedAt > began {
		return i.failed
	}
	return nil
}

// moved asks for a new document after an endpoint of doc answered 404. It
// reports whether the next get may bring another one.
func (i *issuer) moved(doc *document, now agent.Clock) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.doc != doc {
		return true // someone has fetched it meanwhile
	}
	if now().Boot-i.since < documentNew {
		return false
	}
	i.since, i.until = now().Boot, 0
	return true
}

// places are where a document may be: OpenID Connect appends its path (Discovery
// §4), RFC 8414 §3 inserts it before the issuer's own.
func (i *issuer) places() [2]*url.URL {
	oidc, plain := *i.url, *i.url
	path := strings.TrimSuffix(i.url.Path, "/")
	oidc.Path, oidc.RawPath = path+"/.well-known/openid-configuration", ""
	plain.Path, plain.RawPath = "/.well-known/oauth-authorization-server"+path, ""
	return [2]*url.URL{&oidc, &plain}
}

// fetch asks in both places. Every error of it says that nothing was spent.
func (i *issuer) fetch(ctx context.Context, now agent.Clock) (*document, error) {
	var last *agent.Error
	for _, u := range i.places() {
		a, err := i.client.Do(ctx, &wire.Request{Method: nethttp.MethodGet, URL: u, Clock: now,
			Header: nethttp.Header{"Accept": {"application/json"}}})
		if err != nil {
			e := at(err, "")
			e.Unsent, e.Detail = true, "discovery: "+e.Detail
			return nil, e
		}
		e := i.refused(a)
		if e == nil {
			return i.read(a.Body)
		}
		if last == nil || a.Status != 404 { // which says least
			last = e
		}
		if e.Kind != agent.Misconfigured {
			break
		}
	}
	return nil, last
}

// refused says why an answer is no document, nil where it may be one.
func (i *issuer) refused(a *wire.Answer) *agent.Error {
	e := &agent.Error{Kind: agent.Misconfigured, Unsent: true, Wait: a.RetryAfter(), Hint: "look at issuer, or give the endpoints one by one: token_url, …"}
	said := "discovery: server answered " + itoa(a.Status)
	switch code := a.Status; {
	case code == 429, code == 503 && e.Wait > 0:
		e.Kind, e.Hint = agent.Throttled, ""
	case code == 408, code == 425, code/100 == 5 && code != 511:
		e.Kind, e.Hint = agent.Transient, ""
	case code/100 == 3:
		said += ", a redirect that is not followed"
	case a.IsHTML():
		said += " with a page for people"
	case code == 200:
		return nil
	}
	e.Detail = said
	return e
}

// read makes a document of a body and checks what must be true of it.
func (i *issuer) read(body []byte) (*document, error) {
	bad := func(hint, detail string) (*document, error) {
		return nil, &agent.Error{Kind: agent.Misconfigured, Unsent: true, Detail: "the discovery document " + detail, Hint: hint}
	}
	var raw map[string]json.RawMessage
	if json.Unmarshal(body, &raw) != nil || raw == nil {
		return bad("look at issuer", "is no JSON object")
	}
	text := func(m map[string]json.RawMessage, k string) (s string) { _ = json.Unmarshal(m[k], &s); return s }
	// Another issuer's document would send our secrets to its endpoints
	// (RFC 8414 §3.3).
	switch said := text(raw, "issuer"); {
	case said == "":
		return bad("look at issuer", "names no issuer")
	case strings.TrimSuffix(said, "/") == strings.TrimSuffix(i.name, "/") && said != i.name:
		return bad("the issuer must be equal to the letter: write it with or without the / at its end, as the document does", "is of another issuer than the config's by a / at its end")
	case said != i.name:
		return bad("write the issuer as the server does, or give token_url", "is of another issuer than the config's")
	}
	doc := &document{}
	_ = json.Unmarshal(raw["token_endpoint_auth_methods_supported"], &doc.auths)
	_ = json.Unmarshal(raw["authorization_response_iss_parameter_supported"], &doc.iss)
	var aliases map[string]json.RawMessage
	_ = json.Unmarshal(raw["mtls_endpoint_aliases"], &aliases)
	for e := range endpoints {
		for _, from := range []struct {
			m  map[string]json.RawMessage
			to *[endpoints]*url.URL
		}{{raw, &doc.urls}, {aliases, &doc.aliases}} {
			said := text(from.m, e.member())
			if said == "" {
				continue
			}
			u, err := url.Parse(said)
			if err != nil || u.Fragment != "" || u.User != nil || i.client.CheckURL(u) != nil {
				return bad("https is needed, but on loopback; or give "+e.key(), "names a "+e.member()+" that may not be used")
			}
			from.to[e] = u
		}
	}
	return doc, nil
}

// place is an endpoint that was found.
type place struct {
	url   *url.URL
	doc   *document // nil: given in the config
	auths []string  // client authentications that the server knows; nil: not said
	iss   bool      // answers to the browser name their issuer
	token *url.URL  // the token endpoint, as the server names itself by
	aud   string    // of client assertions
}

// find gives the URL of an endpoint: the config's, else what the issuer's
// document says. Nothing was spent where it fails.
func (s *Source) find(ctx context.Context, which endpoint) (*place, error) {
	p := &place{url: s.given[which]}
	if p.url != nil && (s.given[endToken] != nil || s.issuer == nil) {
		return p.withAudience(s, s.given[endToken]), nil
	}
	doc, err := s.issuer.get(ctx, s.clock)
	if err != nil {
		return nil, err
	}
	p.auths, p.iss = doc.auths, doc.iss
	if p.url == nil {
		p.url, p.doc = doc.urls[which], doc
		if alias := doc.aliases[which]; alias != nil && len(s.files) > 0 {
			p.url = alias
		}
	}
	if p.url == nil {
		return nil, &agent.Error{Kind: agent.Misconfigured, Unsent: true, Detail: "the discovery document names no " + which.member(),
			Hint: "give " + which.key() + ", or another grant", Err: errNotNamed}
	}
	token := s.given[endToken]
	if token == nil {
		token = doc.urls[endToken]
	}
	return p.withAudience(s, token), nil
}

// withAudience says whom a client assertion is for: by RFC 7523 §3 the server,
// which most know by the URL of their token endpoint.
func (p *place) withAudience(s *Source, token *url.URL) *place {
	switch aud := s.spec.AssertionAudience; {
	case aud == "issuer":
		p.aud = s.spec.Issuer
	case aud != "" && aud != "token_url":
		p.aud = aud
	case token != nil:
		p.aud = token.String()
	default:
		p.aud = p.url.String()
	}
	if p.token = token; token == nil {
		p.token = p.url
	}
	return p
}
