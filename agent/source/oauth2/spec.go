// Package oauth2 is the source of OAuth 2.0 access tokens (RFC 6749) and of what
// is built on it: OpenID Connect discovery, device codes (RFC 8628), PKCE on a
// loopback redirect (RFC 7636, RFC 8252), signed assertions (RFC 7523), token
// exchange (RFC 8693), certificates (RFC 8705), proofs of a key (RFC 9449) and
// revocation (RFC 7009).
//
// A Source makes and judges every request itself: the agent must know before
// one is sent whether it spends a refresh token, and afterwards whether a whole
// answer came. Nothing that a server wrote is ever shown, but for what a person
// who signs in is to open and to type.
package oauth2

import (
	"renewd/agent/secret"
	"renewd/agent/source/spec"
	"renewd/agent/source/wire"
)

// Spec is what may stand beside `type: oauth2`.
type Spec struct {
	// Where the server is: an issuer, whose discovery document names the
	// endpoints, or the endpoints one by one; one given goes before one found.
	Issuer           string `yaml:"issuer"`
	TokenURL         string `yaml:"token_url"`
	AuthorizationURL string `yaml:"authorization_url"`
	DeviceURL        string `yaml:"device_authorization_url"`
	RevocationURL    string `yaml:"revocation_url"`           // "none": sessions are not ended at the server
	PushedURL        string `yaml:"pushed_authorization_url"` // RFC 9126; "none": the browser carries the whole request

	Grant string `yaml:"grant"` // one of Grants

	ClientID          string      `yaml:"client_id"`
	ClientAuth        string      `yaml:"client_auth"` // one of ClientAuths; by default told from what is given
	ClientSecret      *secret.Ref `yaml:"client_secret"`
	ClientKey         *secret.Ref `yaml:"client_key"`       // PEM
	ClientAssertion   *secret.Ref `yaml:"client_assertion"` // a JWT that something else signs and keeps fresh, in place of client_key
	KeyID             string      `yaml:"key_id"`
	Algorithm         string      `yaml:"algorithm"`          // by default told from the key; HS256 with a secret
	AssertionAudience string      `yaml:"assertion_audience"` // token_url (default), issuer, or any other text

	Scopes      spec.Strings            `yaml:"scopes"`
	RepeatScope bool                    `yaml:"repeat_scopes"` // in refreshes too (RFC 6749 §6 makes it optional)
	Audience    string                  `yaml:"audience"`
	Resource    spec.Strings            `yaml:"resource"` // RFC 8707
	Params      map[string]spec.Strings `yaml:"params"`   // any others, in the first request of a login

	RefreshToken *secret.Ref `yaml:"refresh_token"` // the first one; the agent keeps the later ones
	Username     string      `yaml:"username"`
	Password     *secret.Ref `yaml:"password"`
	Assertion    *Assertion  `yaml:"assertion"`

	SubjectToken       *Subject `yaml:"subject_token"`
	SubjectTokenType   string   `yaml:"subject_token_type"` // access_token, id_token, jwt, … or a URI
	ActorToken         *Subject `yaml:"actor_token"`
	ActorTokenType     string   `yaml:"actor_token_type"`
	RequestedTokenType string   `yaml:"requested_token_type"`

	RedirectHost string `yaml:"redirect_host"` // 127.0.0.1 (default), localhost or ::1
	RedirectPort int    `yaml:"redirect_port"` // 0: any that is free (RFC 8252 §7.3)
	RedirectPath string `yaml:"redirect_path"` // /callback

	DPoP          bool   `yaml:"dpop"`
	DPoPAlgorithm string `yaml:"dpop_algorithm"` // ES256

	Token     string `yaml:"token"`      // access_token (default) or id_token
	ExpiresIn string `yaml:"expires_in"` // how the server means it: s (default), ms, us, min, or ignore
	Errors    []Rule `yaml:"errors"`

	Lifetime *spec.Lifetime `yaml:"lifetime"`
	Session  *spec.Session  `yaml:"session"`
	Rejected *spec.Rejected `yaml:"rejected"`
	Limits   *spec.Limits   `yaml:"limits"`
	Present  *spec.Present  `yaml:"present"`
	TLS      *wire.TLS      `yaml:"tls"`
	Proxy    string         `yaml:"proxy"` // URL, or "none"
}

// Assertion is the JWT of grant jwt_bearer (RFC 7523 §2.1), signed here, or made
// elsewhere: then Value is all. The claims iat, exp and jti are made; one given
// wins and a null removes it.
type Assertion struct {
	Value     *secret.Ref          `yaml:"value"`    // what something else signs and keeps fresh
	Issuer    string               `yaml:"issuer"`   // client_id
	Subject   string               `yaml:"subject"`  // issuer
	Audience  string               `yaml:"audience"` // token_url
	Lifetime  spec.Duration        `yaml:"lifetime"` // 5m
	Claims    map[string]spec.Tree `yaml:"claims"`
	Headers   map[string]spec.Tree `yaml:"headers"`
	Key       *secret.Ref          `yaml:"key"` // PEM; the secret itself for HS algorithms
	KeyID     string               `yaml:"key_id"`
	Algorithm string               `yaml:"algorithm"` // by default told from the key
}

// Subject is a token to exchange: another token that this agent keeps, or a
// secret.
type Subject struct {
	Token  string     `yaml:"token"`
	Secret secret.Ref `yaml:",else"`
}

// Rule says what an answer means where a server is odd; all its tests must hold,
// and the first rule that matches wins over what is known of OAuth.
type Rule struct {
	Step   spec.Strings `yaml:"step"` // login, refresh, logout
	Status *spec.Status `yaml:"status"`
	Code   spec.Strings `yaml:"code"`  // the answer's `error`
	Empty  *bool        `yaml:"empty"` // the body

	Pointer *string      `yaml:"pointer"` // RFC 6901, into the answer's JSON
	Equals  spec.Tree    `yaml:"equals"`  // what is there; a list: any of them
	Matches string       `yaml:"matches"` // RE2, of what is there
	Present spec.Strings `yaml:"present"` // pointers

	Means string        `yaml:"means"`
	Wait  spec.Duration `yaml:"wait"`
	Hint  string        `yaml:"hint"`
}

// The values of Spec.Grant.
const (
	ClientCredentials = "client_credentials"
	RefreshToken      = "refresh_token"
	DeviceCode        = "device_code"
	AuthorizationCode = "authorization_code"
	Password          = "password"
	JWTBearer         = "jwt_bearer"
	TokenExchange     = "token_exchange"
)

// Grants are the ways to a first token.
func Grants() []string {
	return []string{ClientCredentials, RefreshToken, DeviceCode, AuthorizationCode, Password, JWTBearer, TokenExchange}
}

// The values of Spec.ClientAuth.
const (
	authBasic      = "client_secret_basic"
	authPost       = "client_secret_post"
	authSecretJWT  = "client_secret_jwt"
	authPrivateJWT = "private_key_jwt"
	authTLS        = "tls_client_auth"
	authSelfTLS    = "self_signed_tls_client_auth"
	authNone       = "none"
)

// ClientAuths are the ways in which a client proves who it is.
func ClientAuths() []string {
	return []string{authBasic, authPost, authSecretJWT, authPrivateJWT, authTLS, authSelfTLS, authNone}
}

// tokenTypes are the identifiers of RFC 8693 §3 that have a short name here.
const tokenTypes = "urn:ietf:params:oauth:token-type:"

func shortTokenTypes() []string {
	return []string{"access_token", "refresh_token", "id_token", "saml1", "saml2", "jwt"}
}
