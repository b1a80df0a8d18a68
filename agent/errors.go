package agent

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what went wrong in the terms that decide what happens next. The
// strings are public: status, logs, metrics, the socket and `errors:` rules of
// sources use them.
type Kind string

const (
	Transient     Kind = "transient"     // network, 408, 5xx: retry with backoff
	Throttled     Kind = "throttled"     // 429, 503 with Retry-After: wait what the server says
	SessionOver   Kind = "session_over"  // a refresh was refused: log in
	ClockOff      Kind = "clock"         // a signed login was refused and the server's clock differs
	Rejected      Kind = "rejected"      // the login says the credentials are bad
	Locked        Kind = "locked"        // the account is locked for a while
	NeedsHuman    Kind = "needs_human"   // MFA, consent, an expired device code
	Misconfigured Kind = "misconfigured" // 404, unknown CA, HTML, no token in a 2xx
	Ambiguous     Kind = "ambiguous"     // a request that spends a refresh token got no whole answer
)

// Kinds lists every Kind, in the order of the documentation.
var kinds = []Kind{Transient, Throttled, SessionOver, ClockOff, Rejected, Locked, NeedsHuman, Misconfigured, Ambiguous}

// Kinds returns every Kind, in the order of the documentation.
func Kinds() []Kind { return append([]Kind(nil), kinds...) }

// Error is what a Source returns when a step fails. Detail and Hint are shown to
// people; neither ever holds text that a server sent, nor a secret.
type Error struct {
	Kind   Kind
	Step   Step          // which step failed
	Detail string        // what happened, lower case, no full stop: "server answered 401"
	Hint   string        // what to do about it, may be empty
	Wait   time.Duration // what the server asked us to wait; 0 when it did not say
	Unsent bool          // the request never left this machine: no try was spent
	Err    error         // cause, for errors.Is; its text is not shown
}

func (e *Error) Error() string {
	if e.Step == "" {
		return fmt.Sprintf("%s: %s", e.Kind, e.Detail)
	}
	return fmt.Sprintf("%s: %s: %s", e.Step, e.Kind, e.Detail)
}

func (e *Error) Unwrap() error { return e.Err }

// asError makes an *Error of any error; what a source did not classify is
// transient and its text is not trusted to be free of secrets.
func asError(step Step, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		if e.Step == "" {
			c := *e
			c.Step = step
			return &c
		}
		return e
	}
	return &Error{Kind: Transient, Step: step, Detail: "the step failed", Err: err}
}

// ErrPassedOver is returned by Source.Prepare for a refresh that cannot be made
// from what the session holds (no refresh token, or the token it would present
// has expired): the keeper logs in instead.
var ErrPassedOver = errors.New("nothing to refresh with")
