// Package http is the declarative source: a login, and what follows it, written
// in YAML. A preset is a Spec in the same language, embedded.
//
// A Spec is compiled once into a Program; Program.Bind gives one token's Source,
// which holds its input values and nothing else, so that a hundred thousand
// tokens of one preset share the rest.
package http

import (
	"renewd/agent/source/spec"
	"renewd/agent/source/wire"
)

// Problem is one thing wrong with a Spec or with the inputs of a token.
type Problem = spec.Problem

// Spec is what may stand beside `type: http`, and what a preset's file holds.
type Spec struct {
	Language *int             `yaml:"language"` // 1; required in a file standing alone
	Inputs   map[string]Input `yaml:"inputs"`
	OneOf    [][]string       `yaml:"one_of"`
	Vars     map[string]Var   `yaml:"vars"`
	Login    []Step           `yaml:"login,one"`
	Refresh  []Step           `yaml:"refresh,one"`
	Logout   []Step           `yaml:"logout,one"`
	Extend   []Step           `yaml:"extend,one"`
	Errors   []Rule           `yaml:"errors"`

	// Principal names who logs in, where the inputs do not: a key file says it.
	Principal string `yaml:"principal"`

	Overrides `yaml:",inline"`

	// Values are the other keys beside these: what inputs are given. A preset's
	// file has none.
	Values map[string]spec.Value `yaml:",rest"`
}

// Use is what may stand beside `type: PRESET`.
type Use struct {
	Overrides `yaml:",inline"`

	Values map[string]spec.Value `yaml:",rest"` // the preset's inputs
}

// Overrides are the keys that a token may also set beside a preset's inputs:
// each one set there replaces the preset's, key by key.
type Overrides struct {
	Lifetime *Lifetime `yaml:"lifetime"`
	Session  *Session  `yaml:"session"`
	Rejected *Rejected `yaml:"rejected"`
	Limits   *Limits   `yaml:"limits"`
	Present  *Present  `yaml:"present"`
	TLS      *wire.TLS `yaml:"tls"`
	Proxy    string    `yaml:"proxy"` // URL, or "none"
}

// Input declares a value that stands beside `type`.
type Input struct {
	Type     spec.Strings         `yaml:"type"` // string (default), secret, url, integer, boolean, duration, list
	Secret   bool                 `yaml:"secret"`
	Required bool                 `yaml:"required"`
	Default  spec.Tree            `yaml:"default"` // scalar, list or expression
	Choices  map[string]spec.Tree `yaml:"choices"` // typed: used
	Min      spec.Tree            `yaml:"min"`     // integer or duration
	Max      spec.Tree            `yaml:"max"`
	Help     string               `yaml:"help"`
}

// Var is a named value: a literal, a list, a secret, an expression, or
// `{sign: …}`.
type Var struct {
	Sign  *Sign      `yaml:"sign"`
	Value spec.Value `yaml:",else"`
}

// Sign declares a JWT signed for each attempt.
type Sign struct {
	Algorithm   string               `yaml:"algorithm"`
	Key         spec.Value           `yaml:"key"`          // expression or secret
	KeyEncoding string               `yaml:"key_encoding"` // utf8 (default), base64, hex; HS only
	KeyID       string               `yaml:"key_id"`
	Headers     map[string]spec.Tree `yaml:"headers"`
	Claims      map[string]spec.Tree `yaml:"claims"`
	Lifetime    spec.Duration        `yaml:"lifetime"` // may be an expression
	Backdate    spec.Duration        `yaml:"backdate"` // may be an expression
}

// Step is one request, or one alternative of several. Where the token is signed
// here there is none.
type Step struct {
	When       *When              `yaml:"when"`
	WhileValid spec.Tree          `yaml:"while_valid"` // refresh: boolean or expression; pass over for login once the token has expired
	Challenge  *Challenge         `yaml:"challenge"`   // login: asked for first; its parameters are challenge.realm and so on
	Request    *Request           `yaml:"request"`
	Token      string             `yaml:"token"`   // login, in place of a request: a var that is signed here is the token itself
	MinAge     spec.Duration      `yaml:"min_age"` // of such a token, before another one is made
	Success    *Success           `yaml:"success"`
	Extract    map[string]Extract `yaml:"extract"` // token refresh_token type extra.NAME expires_in …
	Errors     []Rule             `yaml:"errors"`
	Rejected   *Rejected          `yaml:"rejected"` // login only
}

// Challenge is a request without credentials, whose answer's WWW-Authenticate
// says where Bearer tokens are to be had.
type Challenge struct {
	URL   string    `yaml:"url"`
	Hosts spec.Tree `yaml:"hosts"` // a list or an expression: realms may be there, beside the host of URL
}

// When says which inputs make an alternative hold; all must.
type When struct {
	Given   spec.Strings         `yaml:"given"`
	Missing spec.Strings         `yaml:"missing"`
	Is      map[string]spec.Tree `yaml:"is"`
}

// Request is what is sent. At most one of JSON, Form and Raw, and of Bearer and
// Basic.
type Request struct {
	Method  string               `yaml:"method"` // POST where there is a body, else GET
	URL     string               `yaml:"url"`
	Query   map[string]spec.Tree `yaml:"query"`
	Headers map[string]spec.Tree `yaml:"headers"`
	Timeout spec.Duration        `yaml:"timeout"` // at most 30 s
	JSON    *spec.Tree           `yaml:"json"`
	Form    map[string]spec.Tree `yaml:"form"`
	Raw     *string              `yaml:"raw"`
	Bearer  bool                 `yaml:"bearer"` // the current token
	Basic   *Basic               `yaml:"basic"`
}

// Basic is HTTP Basic authentication (RFC 7617).
type Basic struct {
	Username string `yaml:"username"`
	Password string `yaml:"password"`
}

// Success says which answers are ones.
type Success struct {
	Status  *Status              `yaml:"status"` // any 2xx
	Present spec.Strings         `yaml:"present"`
	Absent  spec.Strings         `yaml:"absent"`
	Equals  map[string]spec.Tree `yaml:"equals"` // pointer: value
}

// Extract says where in an answer a value is: one of Pointer, Header, Cookie
// and Body; or that it is not in there, but what was asked for: Value.
type Extract struct {
	Pointer  spec.Strings `yaml:"pointer"` // RFC 6901; of several the first that is there
	Header   string       `yaml:"header"`
	Cookie   string       `yaml:"cookie"`
	Body     string       `yaml:"body"`  // text: the body; json: the body is one JSON value
	Value    string       `yaml:"value"` // an expression: the answer does not say it
	As       string       `yaml:"as"`    // url: of an extra; made whole on the host that was asked
	Unit     string       `yaml:"unit"`  // s, ms, us, min
	Layout   string       `yaml:"layout"`
	Trim     string       `yaml:"trim"` // characters cut off both ends
	Optional bool         `yaml:"optional"`
}

// Rule says what an answer means; all its tests must hold.
type Rule struct {
	Step    spec.Strings  `yaml:"step"`
	Status  *Status       `yaml:"status"`
	Pointer *string       `yaml:"pointer"`
	Equals  spec.Tree     `yaml:"equals"`  // of Pointer or Header; a list: any of them
	Matches string        `yaml:"matches"` // RE2, of Pointer or Header
	Present spec.Strings  `yaml:"present"` // pointers
	Empty   *bool         `yaml:"empty"`   // the body
	Header  string        `yaml:"header"`
	Skew    spec.Duration `yaml:"skew"` // the answer's Date is further from our clock

	Means   string        `yaml:"means"`
	Wait    spec.Duration `yaml:"wait"` // may be an expression
	WaitMax spec.Duration `yaml:"wait_max"`
	Hint    string        `yaml:"hint"`
}

// These are the same for all sources.
type (
	Lifetime  = spec.Lifetime
	Present   = spec.Present
	BasicPair = spec.BasicPair
	Session   = spec.Session
	Rejected  = spec.Rejected
	Limits    = spec.Limits
	Status    = spec.Status
)

// OverrideKeys are the keys of Overrides.
func OverrideKeys() []string {
	return []string{"lifetime", "session", "rejected", "limits", "present", "tls", "proxy"}
}
