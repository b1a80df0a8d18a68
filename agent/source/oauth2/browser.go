package oauth2

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"

	"renewd/agent"
)

// signInTime is how long a browser is waited for where the caller sets no end.
const signInTime = 10 * time.Minute

// browser sends a person to the server and waits for the browser to be sent back
// here with a code (RFC 6749 §4.1, RFC 7636, RFC 8252).
func (x *exchange) browser(ctx context.Context, show func(agent.Prompt)) (*agent.Grant, error) {
	ctx, cancel := context.WithTimeout(ctx, signInTime)
	defer cancel()
	p, err := x.src.find(ctx, endAuthorization)
	if err != nil {
		return nil, at(err, x.step)
	}
	l, err := x.listen()
	if err != nil {
		return nil, err
	}
	landing := &landing{state: random(32), path: x.src.redirectPath(), host: x.redirectHost(l), came: make(chan *visit)}
	srv := landing.serve(l)
	defer srv()
	verifier, redirect := random(32), "http://"+landing.host+landing.path
	to, expires, err := x.authorize(ctx, p, landing.state, verifier, redirect)
	if err != nil {
		return nil, err
	}
	show(agent.Prompt{URL: to, Local: true, Expires: expires})
	var v *visit
	select {
	case <-ctx.Done():
		if landing.strangers.Load() > 0 {
			return nil, x.late("nobody signed in in time; an answer came whose state was not ours, from an older tab or from someone else")
		}
		return nil, x.late("nobody signed in in time")
	case v = <-landing.came:
	}
	g, err := x.redeem(ctx, p, v.query, verifier, redirect)
	v.done <- failure(err)
	return g, err
}

// authorize is the URL that the person opens, and until when. A server that takes
// the request beforehand, from us and not from the browser, gets it so
// (RFC 9126).
func (x *exchange) authorize(ctx context.Context, p *place, state, verifier, redirect string) (to string, expires time.Time, err error) {
	expires, _ = ctx.Deadline()
	request := x.authorization(state, verifier, redirect)
	push, err := x.pushes(ctx)
	if err != nil {
		return "", expires, err
	}
	if push {
		var life time.Duration
		if request, life, err = x.push(ctx, request); err != nil {
			return "", expires, err
		}
		if end := x.src.clock().Wall.Add(life); end.Before(expires) {
			expires = end
		}
	}
	u := *p.url
	q := u.Query()
	for k, v := range request {
		q[k] = v
	}
	u.RawQuery = q.Encode()
	return u.String(), expires, nil
}

// authorization is what is asked for.
func (x *exchange) authorization(state, verifier, redirect string) url.Values {
	q := url.Values{}
	scope(q, x.src.spec.Scopes)
	x.src.target(q)
	challenge := sha256.Sum256([]byte(verifier))
	q.Set("response_type", "code")
	q.Set("client_id", x.src.spec.ClientID)
	q.Set("redirect_uri", redirect)
	q.Set("state", state)
	q.Set("code_challenge", base64.RawURLEncoding.EncodeToString(challenge[:]))
	q.Set("code_challenge_method", "S256")
	if x.src.spec.DPoP { // the code is good for who has the key alone (RFC 9449 §10)
		if thumbprint, err := x.key.Thumbprint(); err == nil {
			q.Set("dpop_jkt", thumbprint)
		}
	}
	return q
}

// pushes says whether the server takes pushed requests. Where the endpoints are
// given one by one, this one is too.
func (x *exchange) pushes(ctx context.Context) (bool, error) {
	s := x.src
	if s.noPush || s.given[endPushed] == nil && (s.issuer == nil || s.given[endAuthorization] != nil) {
		return false, nil
	}
	_, err := x.src.find(ctx, endPushed)
	if isNotNamed(err) {
		return false, nil
	}
	if err != nil {
		return false, at(err, x.step)
	}
	return true, nil
}

// push sends a request ahead. What the browser carries then names it, for as long
// as the server keeps it.
func (x *exchange) push(ctx context.Context, request url.Values) (url.Values, time.Duration, error) {
	_, r, err := x.post(ctx, endPushed, func(*place, time.Time) (url.Values, error) { return maps.Clone(request), nil })
	if err != nil {
		return nil, 0, err
	}
	uri, ok := r.text("request_uri")
	life, _ := r.span("expires_in", "s")
	if !ok || !legal(uri) || life == nil || *life <= 0 {
		return nil, 0, &agent.Error{Kind: agent.Misconfigured, Step: x.step, Detail: "the server's answer to a pushed request has no usable request_uri", Hint: "pushed_authorization_url: none"}
	}
	return url.Values{"client_id": {x.src.spec.ClientID}, "request_uri": {uri}}, *life, nil
}

// redeem judges what the browser brought and buys the token with it.
func (x *exchange) redeem(ctx context.Context, p *place, q url.Values, verifier, redirect string) (*agent.Grant, error) {
	if err := x.checkIssuer(p, q); err != nil {
		return nil, err
	}
	if code := q.Get("error"); code != "" {
		return nil, x.browserError(code)
	}
	a, r, err := x.post(ctx, endToken, func(*place, time.Time) (url.Values, error) {
		form := url.Values{"grant_type": {"authorization_code"}, "code": {q.Get("code")}, "redirect_uri": {redirect}, "code_verifier": {verifier}}
		if len(x.src.spec.Resource) > 0 {
			form["resource"] = slices.Clone(x.src.spec.Resource)
		}
		return form, nil
	})
	if err != nil {
		return nil, err
	}
	return x.grant(a, r)
}

// checkIssuer refuses a code of another server, which would otherwise be given
// ours to redeem (RFC 9207 §2.4).
func (x *exchange) checkIssuer(p *place, q url.Values) error {
	iss, issuer := q.Get("iss"), x.src.spec.Issuer
	switch {
	case issuer == "":
		return nil
	case iss == "" && !p.iss:
		return nil
	case iss == issuer:
		return nil
	}
	e := &agent.Error{Kind: agent.Misconfigured, Step: x.step, Detail: "the browser brought the answer of another issuer", Hint: "sign in again; if that is no help, look at issuer"}
	if iss == "" {
		e.Detail = "the browser brought an answer without the issuer that the server promises"
	}
	return e
}

func (x *exchange) browserError(code string) *agent.Error {
	m, ok := x.meaning(code, 0)
	if !ok {
		return x.late("the server sent the browser back with an error that OAuth does not know")
	}
	if m.says == "" {
		m.says = "the server sent the browser back with " + code
	}
	return &agent.Error{Kind: m.kind, Step: x.step, Detail: m.says, Hint: m.hint}
}

func (s *Source) redirectPath() string {
	if s.spec.RedirectPath != "" {
		return s.spec.RedirectPath
	}
	return "/callback"
}

// redirectHost is how the redirect URI writes where we listen.
func (x *exchange) redirectHost(l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	host := x.src.spec.RedirectHost
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// listen takes the port that the browser is sent back to. A server compares the
// redirect URI, but for the port of a loopback address (RFC 8252 §7.3).
func (x *exchange) listen() (net.Listener, error) {
	host := "127.0.0.1"
	if x.src.spec.RedirectHost == "::1" {
		host = "::1"
	}
	addr := net.JoinHostPort(host, strconv.Itoa(x.src.spec.RedirectPort))
	l, err := net.Listen("tcp", addr)
	if err == nil {
		return l, nil
	}
	e := &agent.Error{Kind: agent.Misconfigured, Step: x.step, Unsent: true, Err: err,
		Detail: "cannot listen on " + addr + " for the browser's answer", Hint: "another program may have the port: close it, or set redirect_port to another one that the server knows"}
	if x.src.spec.RedirectPort == 0 {
		e.Hint = "the browser's answer needs a port on loopback"
	}
	return nil, e
}

// same compares without telling by its time how much of it was right.
func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// failure is err for the page that the person sees, nil where all went well.
func failure(err error) *agent.Error {
	if err == nil {
		return nil
	}
	return at(err, agent.StepLogin)
}
