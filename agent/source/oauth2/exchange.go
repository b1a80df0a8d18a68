package oauth2

import (
	"context"
	"fmt"
	nethttp "net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"renewd/agent"
	"renewd/agent/source/signer"
	"renewd/agent/source/spec"
	"renewd/agent/source/wire"
)

// skewFelt is the least difference of clocks that is more than the error of
// measuring it.
const skewFelt = 2 * time.Second

// exchange is one step under way: what it was prepared from, and what the
// server's answers so far ask of the next request.
type exchange struct {
	src     *Source
	step    agent.Step
	session agent.Session
	mat     material
	state   private
	key     signer.Key // of proofs, with dpop
	refresh string     // the refresh token to send
	seed    string     // of the config's one

	signed bool // the last request held something signed here
}

// token asks the token endpoint for what the step is for.
func (x *exchange) token(ctx context.Context) (*agent.Grant, error) {
	a, r, err := x.post(ctx, endToken, x.tokenForm)
	if err != nil {
		return nil, err
	}
	return x.grant(a, r)
}

// tokenForm is the request of a refresh or of a login without a person.
func (x *exchange) tokenForm(p *place, now time.Time) (url.Values, error) {
	s := x.src.spec
	form := url.Values{}
	if x.step == agent.StepRefresh {
		form.Set("grant_type", "refresh_token")
		form.Set("refresh_token", x.refresh)
		form["resource"] = s.Resource
		if s.RepeatScope {
			scope(form, s.Scopes)
		}
		return form, nil
	}
	scope(form, s.Scopes)
	x.src.target(form)
	switch s.Grant {
	case ClientCredentials:
		form.Set("grant_type", "client_credentials")
	case Password:
		form.Set("grant_type", "password")
		form.Set("username", s.Username)
		form.Set("password", x.mat.password)
	case JWTBearer:
		assertion, err := x.assertion(p, now)
		if err != nil {
			return nil, err
		}
		form.Set("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
		form.Set("assertion", assertion)
	case TokenExchange:
		x.exchangeForm(form)
	}
	return form, nil
}

// exchangeForm is what RFC 8693 §2.1 asks for.
func (x *exchange) exchangeForm(form url.Values) {
	form.Set("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
	form.Set("subject_token", x.mat.subject)
	form.Set("subject_token_type", x.src.subjectType)
	if x.mat.actor != "" {
		form.Set("actor_token", x.mat.actor)
		form.Set("actor_token_type", x.src.actorType)
	}
	if x.src.requestedType != "" {
		form.Set("requested_token_type", x.src.requestedType)
	}
}

// assertion gives the JWT of grant jwt_bearer, signed here if it is not made
// elsewhere.
func (x *exchange) assertion(p *place, now time.Time) (string, error) {
	if x.mat.assertion != "" {
		return x.mat.assertion, nil
	}
	x.signed = true
	a := x.src.spec.Assertion
	claims := map[string]any{"iss": a.Issuer, "sub": a.Subject, "aud": a.Audience, "jti": newID()}
	if a.Issuer == "" {
		claims["iss"] = x.src.spec.ClientID
	}
	if a.Subject == "" {
		claims["sub"] = claims["iss"]
	}
	if a.Audience == "" {
		claims["aud"] = p.token.String()
	}
	for k, v := range a.Claims {
		claims[k] = v.V
	}
	headers := make(map[string]any, len(a.Headers))
	for k, v := range a.Headers {
		headers[k] = v.V
	}
	return signer.Sign(signer.Token{Algorithm: x.mat.assertionAlgorithm, Key: x.mat.assertionKey, KeyID: a.KeyID, Now: now,
		Lifetime: x.src.assertionLife, Backdate: assertionBackdate, Claims: claims, Headers: headers})
}

func scope(form url.Values, scopes spec.Strings) {
	if len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
}

// target adds for what the token is to be good, and what else the config wants
// in the first request of a login.
func (s *Source) target(form url.Values) {
	if s.spec.Audience != "" {
		form.Set("audience", s.spec.Audience)
	}
	if len(s.spec.Resource) > 0 {
		form["resource"] = s.spec.Resource
	}
	for k, v := range s.spec.Params {
		form[k] = slices.Clone(v)
	}
}

// makeForm makes the parameters of a request to an endpoint at a time of the
// server's clock. It is called anew for each try.
type makeForm func(p *place, now time.Time) (url.Values, error)

// post sends a form to an endpoint as the client that we are, and again where
// the answer says how to do it right: with a nonce (RFC 9449 §8), by its own
// clock, or at another URL; each once. err is nil for a success alone; r is nil
// where no whole answer came.
func (x *exchange) post(ctx context.Context, which endpoint, form makeForm) (a *wire.Answer, r *reply, err error) {
	var nonce, clock, moved bool
	for {
		p, err := x.src.find(ctx, which)
		if err != nil {
			return nil, nil, at(err, x.step)
		}
		now := x.src.now(p.url)
		req, err := x.request(p, which, form, now)
		if err != nil {
			return nil, nil, unbuilt(x.step, err)
		}
		if a, err = x.src.client.Do(ctx, req); err != nil {
			return nil, nil, at(err, x.step)
		}
		news := x.src.noteNonce(p.url, a)
		r = readReply(a)
		bad := x.judge(a, r)
		switch {
		case bad == nil:
			return a, r, nil
		case r.code == "use_dpop_nonce" && news && x.src.spec.DPoP && !nonce:
			nonce = true
		case bad.Kind == agent.ClockOff && x.signed && a.HasSkew && !clock:
			clock = true // the host's skew is known now
		case bad.Kind == agent.ClockOff:
			return a, r, x.clockError(a)
		case a.Status == 404 && p.doc != nil && !moved && x.src.issuer.moved(p.doc, x.src.clock):
			moved = true
		default:
			return a, r, bad
		}
	}
}

// now is the time to sign with: by the clock that the host last showed, which is
// that of the answer before.
func (s *Source) now(u *url.URL) time.Time {
	now := s.clock().Wall
	if skew, ok := s.client.Host(u).Skew(); ok && skew.Abs() >= skewFelt {
		return now.Add(skew)
	}
	return now
}

func (x *exchange) request(p *place, which endpoint, form makeForm, now time.Time) (*wire.Request, error) {
	x.signed = false
	values, err := form(p, now)
	if err != nil {
		return nil, err
	}
	header := nethttp.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}}
	if err := x.authenticate(p, values, header, now); err != nil {
		return nil, err
	}
	if x.src.spec.DPoP && which == endToken {
		proof, err := x.proof(p.url, now)
		if err != nil {
			return nil, err
		}
		header["Dpop"] = []string{proof}
		x.signed = true
	}
	return &wire.Request{Method: nethttp.MethodPost, URL: p.url, Header: header, Body: []byte(values.Encode()), Clock: x.src.clock}, nil
}

func (x *exchange) clockError(a *wire.Answer) *agent.Error {
	e := &agent.Error{Kind: agent.Misconfigured, Step: x.step, Hint: "set this machine's clock (NTP); then look at the key",
		Detail: fmt.Sprintf("server answered %d, and its clock cannot be told", a.Status)}
	if !a.HasSkew {
		return e
	}
	side := "ahead of"
	if a.Skew < 0 {
		side = "behind"
	}
	e.Detail = fmt.Sprintf("server answered %d; its clock is %s %s ours", a.Status, a.Skew.Abs().Round(time.Second), side)
	if x.signed {
		e.Detail += ", and what was signed by its clock was refused too"
	}
	return e
}

// revoke ends a session (RFC 7009): the refresh token first, since that ends its
// access tokens at most servers, then the access token.
func (x *exchange) revoke(ctx context.Context) (*agent.Grant, error) {
	sent := x.src.clock()
	for _, t := range []struct{ hint, token string }{
		{"refresh_token", x.session.RefreshToken.Reveal()}, {"access_token", x.session.Token.Reveal()},
	} {
		if t.token == "" {
			continue
		}
		_, r, err := x.post(ctx, endRevocation, func(*place, time.Time) (url.Values, error) {
			return url.Values{"token": {t.token}, "token_type_hint": {t.hint}}, nil
		})
		switch {
		case err == nil, r != nil && r.code == "unsupported_token_type": // it dies by itself
		case r == nil && isNotNamed(err):
			return &agent.Grant{Sent: sent}, nil // this server ends nothing
		default:
			return nil, err
		}
	}
	return &agent.Grant{Sent: sent}, nil
}
