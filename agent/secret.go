package agent

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[secret]"

// Secret is a value that must never be seen in a log, an error or a status: a
// token, a password, a key. However it is formatted it prints "[secret]"; the
// value comes out of Reveal alone. The zero Secret is unset.
//
// The value sits behind a pointer on purpose: package fmt does not call the
// methods of unexported struct fields, but it prints a nested pointer as an
// address and never follows it.
type Secret struct{ p *string }

// NewSecret wraps s; the empty string gives the unset Secret.
func NewSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{&s}
}

// Reveal returns the value, "" when unset.
func (s Secret) Reveal() string {
	if s.p == nil {
		return ""
	}
	return *s.p
}

// IsZero reports whether s is unset.
func (s Secret) IsZero() bool { return s.p == nil }

// Equal reports whether both are the same value. How long it takes may tell how
// much of them is: it is for what a server gave, not for what a caller guesses.
func (s Secret) Equal(o Secret) bool { return s.Reveal() == o.Reveal() }

func (Secret) String() string               { return redacted }
func (Secret) GoString() string             { return redacted }
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Format makes every verb print the same redaction.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }
