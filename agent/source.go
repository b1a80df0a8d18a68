package agent

import (
	"context"
	"time"
)

// Step is one thing a source can do.
type Step string

const (
	StepLogin   Step = "login"
	StepRefresh Step = "refresh" // also a declared `extend`, which brings no new value
	StepLogout  Step = "logout"
)

// Source obtains one token. A Source is called by one goroutine at a time for
// login and refresh; a logout of an older session may run beside them. It keeps
// no session of its own: what it needs comes in the Session and goes out in the
// Grant. Nothing is sent before Attempt.Send, so the keeper can ask the ledger
// first and write down what is about to be tried.
type Source interface {
	// Traits says what the keeper must know of this source; it is constant for
	// the life of the Source.
	Traits() *Traits

	// Prepare resolves secrets and builds the request of a step. It sends
	// nothing over the network. It returns ErrPassedOver for a refresh that
	// cannot be made; an *Error with Unsent set for a secret that cannot be
	// read (Misconfigured) or a login that needs a person (NeedsHuman).
	Prepare(ctx context.Context, step Step, s Session) (*Attempt, error)
}

// PersonSource is a Source whose login needs a person (Traits.NeedsPerson).
type PersonSource interface {
	Source

	// SignIn does a login with a person's help. It calls show with what they
	// are to do, again where that changes, and waits for them until ctx ends.
	// Errors are *Error; where the person let the time pass, NeedsHuman.
	SignIn(ctx context.Context, show func(Prompt)) (*Grant, error)
}

// Prompt is what a person is to do to sign in. It may be shown to them, and to
// nobody else.
type Prompt struct {
	URL      string    `json:"url"`                // to open in a browser
	Code     string    `json:"code,omitempty"`     // to type there, where URL does not hold it
	Complete string    `json:"complete,omitempty"` // URL with the code in it, for a QR code
	Local    bool      `json:"local,omitempty"`    // the browser must run on this machine: it is sent back to a loopback port
	Expires  time.Time `json:"expires,omitzero"`
}

// ProofSource is a Source whose token is presented with a proof of a key
// (DPoP, RFC 9449).
type ProofSource interface {
	Source

	// Proof makes one for a request of method to url with the session's token.
	// nonce is what the API demanded, empty if nothing.
	Proof(s Session, method, url, nonce string) (string, error)
}

// Attempt is one prepared request (or one prepared exchange of several).
type Attempt struct {
	Credential Credential // what the vendor would count this try against; for StepLogin

	// Spends says that sending consumes a rotating refresh token: intent is
	// made durable before Send.
	Spends bool

	// Send performs the step. The context bounds it; it is not cancelled by a
	// reload, a stop or a caller that went away. Errors are *Error.
	Send func(ctx context.Context) (*Grant, error)
}

// Credential names what a vendor locks: the origin, the principal there and the
// secret it proves itself with. Digest is a SHA-256 of the secret material; the
// keeper keys it before it is written anywhere. The zero Credential is of what asks
// nobody, such as a signature made here: nothing counts or holds it.
type Credential struct {
	Origin    string // scheme://host:port, or "exec"
	Principal string
	Digest    [32]byte
}

// Session is what a refresh or a logout works from.
type Session struct {
	Token        Secret
	RefreshToken Secret
	Extra        map[string]string
	Private      Secret // what Grant.Private said last
	Valid        bool   // the token has not expired by our reckoning
	Seed         string // what Grant.Seed said when the session began
	Dead         bool   // that session is over: what the config gave it is spent
}

// Grant is what a step brought. Zero fields mean "not said": what was known
// before stays.
type Grant struct {
	Sent  Instant // when the request was sent: lives count from here
	Token Secret  // unset: the step only moved clocks (extend)
	Type  string  // token type for consumers, usually "Bearer"
	Extra map[string]string

	// Life is the access token's remaining life counted from Sent, already the
	// smallest of what is known (see Life). It must be above zero where Token
	// is set.
	Life time.Duration
	// IatLife says that nothing in the answer ties Life to now: it rests on the
	// token's own iat or on a declaration. The same token must then not live
	// longer for having been handed out again.
	IatLife bool

	// Seed marks what the session grew from, where that is a refresh token of
	// the config (a hash of it, never the value): a source that finds another
	// one there starts from it anew.
	Seed string

	// Private is the source's own and comes back in every later Session: a key
	// that the token is bound to, say. It is sealed like a token and never
	// published. Unset: the old one stays, but a login begins without one.
	Private Secret

	RefreshToken Secret        // unset: the old one stays
	RefreshIdle  time.Duration // refresh token's idle expiry, from Sent
	RefreshLife  time.Duration // refresh token's absolute expiry, from Sent
	SessionLife  time.Duration // session's end as the server told it, from Sent

	Skew    time.Duration // server's clock less ours, where HasSkew
	HasSkew bool
	Note    string // something an admin should know, for status ("scope was reduced"); no secrets
}

// Traits is what the keeper must know of a source.
type Traits struct {
	Type        string   // "commander", "http", "exec": label in metrics and status
	Fingerprint string   // of type, url, principal, grant and scopes: another one is another session
	Hosts       []string // host:port that requests go to, for budgets; empty for local sources
	CanRefresh  bool
	NeedsPerson bool // a login cannot be done without a person
	SelfStart   bool // a refresh needs no login first: the config brings the first refresh token
	CanLogout   bool

	OverlapNone bool // a refresh kills the old token at once
	Rotates     bool // a refresh spends its refresh token
	ReuseSafe   bool // presenting a spent refresh token again is known not to be punished

	Session  SessionLimits
	Rejected RejectedPolicy
	Limits   HostLimits    // hard limits that the source brings for its hosts
	Life     time.Duration // expected life where it is declared (lifetime.max or default), else 0

	Presentation *Presentation
}

// SessionLimits are the ends a session has by declaration.
type SessionLimits struct {
	MaxAge       time.Duration // from the sending of the login; 0: none
	MaxRefreshes int           // 0: none
	Idle         time.Duration // since the last renewal; 0: none
}

// RejectedPolicy says how a refused secret is treated; zero values mean the
// documented defaults (2 tries for a secret that has worked, a probe each 35 min).
type RejectedPolicy struct {
	Tries int
	Probe time.Duration
}

// HostLimits bound what is sent to one host. Zero values mean: the default.
type HostLimits struct {
	Concurrency int           // requests at once
	Requests    int           // requests in any window of Per
	Per         time.Duration // window of Requests
}

// Presentation says how a token is presented to its API.
type Presentation struct {
	Header string // "Authorization"
	Query  string // name of the query parameter that it goes in; then there is no header
	// Value builds the header's value; nil means "Bearer " + token. In a query
	// nil means the token.
	Value func(token string, extra map[string]string) string
}
