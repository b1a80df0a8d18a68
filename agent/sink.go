package agent

import (
	"context"
	"strings"
	"time"
	"unsafe"
)

// Sink is one place where a token is published. Deliver and Withdraw of one
// Sink are never called at the same time; different sinks are independent.
type Sink interface {
	// ID names the sink in status, logs and metrics and is stable over
	// reloads: "file /run/renewd/tokens/x".
	ID() string

	// Deliver makes p what readers see and returns when that is durable. It is
	// called again with the same Publication when the sink may have drifted; it
	// then writes only what differs. An error keeps the old publication whole;
	// the keeper retries with backoff.
	Deliver(ctx context.Context, p *Publication) error

	// Withdraw tells the sink that the token is no longer to be published, and
	// why; the sink's own settings decide what that means.
	Withdraw(ctx context.Context, why WithdrawReason) error
}

// Rememberer is a Sink that may be told, before its first Deliver, what an earlier
// process left in its place: Withdraw takes that away too, where it is still there.
// It is called in the place of a Deliver, never beside one.
type Rememberer interface {
	Remember(p *Publication)
}

// WithdrawReason says why a token is withdrawn from a sink.
type WithdrawReason int

const (
	WithdrawRemoved WithdrawReason = iota // the token or the sink left the config
	WithdrawExpired                       // the token expired and no newer one is there
	WithdrawStopped                       // the agent stops
)

// Publication is one published state of a token: the value and its clocks, as
// this machine's wall clock tells them. It is immutable and shared.
type Publication struct {
	Name       string
	Token      Secret
	Type       string            // "Bearer"
	Extra      map[string]string // nil where the source extracts none
	Generation uint64
	Revision   uint64

	IssuedAt         time.Time // when the request that brought it was sent
	ExpiresAt        time.Time // access expiry
	SessionExpiresAt time.Time // session hard limit; zero: none known

	// Expires is ExpiresAt on the boot clock: what validity is judged by.
	Expires time.Duration
	Life    time.Duration // the life this value had when it was issued

	Presentation *Presentation

	// Token's bytes without its detour, where size is not 0: a pointer, since
	// package fmt prints that as a number.
	bytes *byte
	size  int32
	plain bool // they need no escape in JSON
}

// prepare makes reading cheap: of many tokens each is read seldom, and then every
// pointer on the way costs more than the copy.
func (p *Publication) prepare() {
	text := p.Token.Reveal()
	p.bytes, p.size = unsafe.StringData(text), int32(len(text))
	p.plain = strings.IndexByte(text, '"') < 0 && strings.IndexByte(text, '\\') < 0
}

// Text gives the token, and whether it stands in JSON as it is; where that is not
// known plain is false.
func (p *Publication) Text() (text string, plain bool) {
	if p.size == 0 {
		return p.Token.Reveal(), false
	}
	return unsafe.String(p.bytes, p.size), p.plain
}

// Remaining is how long the token is still accepted, seen from now; 0 or less
// when it has expired.
func (p *Publication) Remaining(now Instant) time.Duration { return p.Expires - now.Boot }

// Bearer gives the name of the HTTP header that presents the token, where its
// value is "Bearer " and the token.
func (p *Publication) Bearer() (name string, ok bool) {
	switch pr := p.Presentation; {
	case pr != nil && pr.Query != "":
		return "", false
	case pr == nil || pr.Header == "" && pr.Value == nil:
		return "Authorization", true
	default:
		return pr.Header, pr.Value == nil
	}
}

// Query gives the name and the value, neither encoded, of the query parameter
// that presents the token; the name is empty where a header does.
func (p *Publication) Query() (name, value string) {
	pr := p.Presentation
	switch {
	case pr == nil || pr.Query == "":
		return "", ""
	case pr.Value == nil:
		return pr.Query, p.Token.Reveal()
	}
	return pr.Query, pr.Value(p.Token.Reveal(), p.Extra)
}

// Header gives the HTTP header's name and value that present the token; the name
// is empty where a query parameter does.
func (p *Publication) Header() (name, value string) {
	name, ok := p.Bearer()
	if ok {
		return name, "Bearer " + p.Token.Reveal()
	}
	if query, _ := p.Query(); query != "" {
		return "", ""
	}
	if name == "" {
		name = "Authorization"
	}
	return name, p.Presentation.Value(p.Token.Reveal(), p.Extra)
}
