package oauth2

import (
	"errors"
	"time"

	"renewd/agent"
	"renewd/agent/source/wire"
)

// clockOff is how far a server's clock may be off before it is thought to be
// why something signed was refused.
const clockOff = 30 * time.Second

// judge says what a whole answer means, nil for a success.
func (x *exchange) judge(a *wire.Answer, r *reply) *agent.Error {
	wait := a.RetryAfter()
	said := "server answered " + itoa(a.Status)
	say := func(k agent.Kind, hint, detail string) *agent.Error {
		return &agent.Error{Kind: k, Step: x.step, Wait: wait, Detail: detail, Hint: hint}
	}
	for i := range x.src.rules {
		if m := &x.src.rules[i]; m.holds(x.step, a, r) {
			wait = max(wait, m.wait)
			kind := agent.Kind(m.Means)
			if kind == agent.SessionOver && x.step == agent.StepLogin {
				kind = agent.Rejected // a login has no session
			}
			return say(kind, m.Hint, said+" ("+m.path+")")
		}
	}
	if a.Status == 429 {
		return say(agent.Throttled, "", said)
	}
	if m, ok := x.meaning(r.code, a.Status); ok {
		if m.kind == agent.Transient && wait > 0 {
			m.kind = agent.Throttled
		}
		if x.signed && m.clock && a.HasSkew && a.Skew.Abs() > clockOff {
			m.kind = agent.ClockOff
		}
		if m.says != "" {
			return say(m.kind, m.hint, m.says)
		}
		return say(m.kind, m.hint, said+": "+r.code)
	}
	if a.Status/100 == 2 && !r.failed && r.members != nil && !a.IsHTML() {
		return nil
	}
	if a.Status/100 == 2 && x.step == agent.StepLogout && !r.failed {
		return nil // RFC 7009 §2.2: the status is all
	}
	return x.unknown(a, r, say)
}

// unknown classes what no code tells, by its status alone. An outage is told in
// HTML more often than not, so the statuses of one come first.
func (x *exchange) unknown(a *wire.Answer, r *reply, say func(k agent.Kind, hint, detail string) *agent.Error) *agent.Error {
	said := "server answered " + itoa(a.Status)
	odd := ""
	if r.failed {
		said += " with an error that OAuth does not know"
		odd = "tell what it means: errors: [{status: " + itoa(a.Status) + ", means: …}]"
	}
	switch code := a.Status; {
	case code == 503 && a.RetryAfter() > 0:
		return say(agent.Throttled, "", said)
	case code == 408, code == 425, code/100 == 5 && code != 511:
		return say(agent.Transient, odd, said)
	case code/100 == 3:
		return say(agent.Misconfigured, "use the URL that it leads to", said+", a redirect that is not followed")
	case a.IsHTML():
		return say(agent.Misconfigured, "a captive portal, a proxy or another URL than token_url", said+" with a page for people")
	case code == 404, code == 405, code == 407, code == 511:
		return say(agent.Misconfigured, "look at token_url or issuer", said)
	case code/100 == 2 && r.failed:
		return say(agent.Misconfigured, odd, said)
	case code/100 == 2:
		return say(agent.Misconfigured, "look at token_url", said+", but it is no JSON object")
	case code/100 != 4:
		return say(agent.Misconfigured, odd, said)
	case x.step != agent.StepLogin:
		return say(agent.SessionOver, odd, said)
	case x.signed && a.HasSkew && a.Skew.Abs() > clockOff:
		return say(agent.ClockOff, "", said)
	}
	return say(agent.Rejected, odd, said)
}

// meaning is what a code of the RFCs means here.
type meaning struct {
	kind  agent.Kind
	hint  string
	says  string // to a person who signs in, in place of the code
	clock bool   // where our clock is off, that may be why
}

// meaning knows the codes of RFC 6749 §5.2 and §4.1.2.1, RFC 8628 §3.5, RFC 8693
// §2.2.2, RFC 8707 §2, RFC 9449 §5, RFC 7009 §2.2.1, RFC 7591 §3.2.2 and OpenID Connect Core
// §3.1.2.6; only these are ever shown.
func (x *exchange) meaning(code string, status int) (m meaning, ok bool) {
	person := x.src.spec.Grant == DeviceCode || x.src.spec.Grant == AuthorizationCode
	login := x.step == agent.StepLogin
	if status == 401 && (code == "unauthorized_client" || code == "access_denied") {
		code = "invalid_client" // as Keycloak and Auth0 tell of a wrong secret
	}
	switch code {
	case "invalid_grant", "invalid_token":
		return x.invalidGrant(), true
	case "invalid_client":
		return x.invalidClient(), true
	case "unauthorized_client", "unsupported_grant_type":
		return meaning{kind: agent.Misconfigured, hint: "allow this client the grant " + x.src.spec.Grant + " at the server"}, true
	case "invalid_scope":
		return meaning{kind: agent.Misconfigured, hint: "look at scopes"}, true
	case "invalid_target":
		return meaning{kind: agent.Misconfigured, hint: "look at resource and audience"}, true
	case "invalid_request":
		return meaning{kind: agent.Misconfigured, hint: x.requestHint()}, true
	case "invalid_client_metadata", "invalid_redirect_uri":
		return meaning{kind: agent.Misconfigured, hint: "look at what the server knows of this client"}, true
	case "unsupported_response_type", "request_not_supported", "request_uri_not_supported", "unsupported_token_type":
		return meaning{kind: agent.Misconfigured}, true
	case "temporarily_unavailable", "server_error":
		return meaning{kind: agent.Transient}, true
	case "slow_down":
		return meaning{kind: agent.Throttled}, true
	case "authorization_pending":
		return meaning{kind: agent.Transient}, true
	case "expired_token":
		if login && person {
			return meaning{kind: agent.NeedsHuman, says: codeExpired, hint: x.src.loginHint()}, true
		}
		return x.invalidGrant(), true
	case "access_denied":
		switch {
		case login && person:
			return meaning{kind: agent.NeedsHuman, says: "the sign-in was denied", hint: "who signs in must agree to it, and be allowed to; " + x.src.loginHint()}, true
		case !login:
			return meaning{kind: agent.SessionOver}, true
		}
		return meaning{kind: agent.Misconfigured, hint: "the server does not let this client have it: look at scopes, audience and resource"}, true
	case "interaction_required", "login_required", "consent_required", "account_selection_required", "mfa_required", "unmet_authentication_requirements":
		hint := "the server wants a person: sign in to it once as this user, or give another grant"
		if person {
			hint = x.src.loginHint()
		}
		return meaning{kind: agent.NeedsHuman, hint: hint}, true
	case "use_dpop_nonce", "invalid_dpop_proof":
		return meaning{kind: agent.Misconfigured, hint: x.proofHint(code), clock: code == "invalid_dpop_proof"}, true
	}
	return meaning{}, false
}

func (x *exchange) invalidGrant() meaning {
	if x.step != agent.StepLogin {
		return meaning{kind: agent.SessionOver}
	}
	switch x.src.spec.Grant {
	case DeviceCode, AuthorizationCode:
		return meaning{kind: agent.NeedsHuman, says: "the server does not take the code of this sign-in, perhaps because it came too late", hint: x.src.loginHint()}
	case Password:
		return meaning{kind: agent.Rejected, hint: "look at username and password"}
	case JWTBearer:
		if x.mat.assertion != "" {
			return meaning{kind: agent.Rejected, hint: "the assertion was refused: look at what makes it, its issuer, subject and audience"}
		}
		return meaning{kind: agent.Rejected, hint: "look at assertion: its key, issuer, subject and audience", clock: true}
	case TokenExchange:
		return meaning{kind: agent.Rejected, hint: "the subject_token was refused"}
	}
	return meaning{kind: agent.Rejected, hint: "look at client_id and what proves it; a client that must prove a key needs dpop: true"}
}

// invalidClient is about the client, not about the session: that is kept, and
// goes on once the client's secret is mended.
func (x *exchange) invalidClient() meaning {
	m := meaning{kind: agent.Rejected, clock: true}
	switch x.src.auth {
	case authNone:
		m.hint = "the server wants this client to prove itself: give client_secret or client_key"
	case authPrivateJWT:
		if x.mat.clientAssertion != "" {
			m.hint = "look at client_id, and at what makes the client_assertion: its issuer, subject and audience"
			break
		}
		m.hint = "look at client_id, client_key, key_id and algorithm; or try assertion_audience: issuer"
	case authTLS, authSelfTLS:
		m.hint = "look at client_id and tls: {cert_file: …}"
	default:
		m.hint = "look at client_id and client_secret; or try another client_auth"
	}
	if x.step != agent.StepLogin {
		m.kind = agent.Misconfigured
	}
	return m
}

func (x *exchange) requestHint() string {
	switch {
	case x.step == agent.StepLogin && x.src.spec.Grant == TokenExchange:
		return "the subject_token may be invalid, or of another type than subject_token_type"
	case x.src.spec.Grant == AuthorizationCode:
		return "look at what the server knows of this client: redirect_port and redirect_path must agree with it"
	}
	return "the server finds a parameter wrong or missing: look at scopes, audience, resource and params; or this client may not have this grant"
}

func (x *exchange) proofHint(code string) string {
	if code == "use_dpop_nonce" && !x.src.spec.DPoP {
		return "dpop: true"
	}
	return "the server does not take our proofs: try another dpop_algorithm"
}

// isNotNamed says that the server has no such endpoint.
func isNotNamed(err error) bool {
	e, ok := errors.AsType[*agent.Error](err)
	return ok && errors.Is(e.Err, errNotNamed)
}

var errNotNamed = errors.New("the endpoint is not named")
