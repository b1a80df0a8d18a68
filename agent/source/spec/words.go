package spec

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is a duration as written: 90s, 15m, 4h, 7d, or, where a source's
// language has expressions, one of those. It is read by ParseDuration.
type Duration string

// UnmarshalText takes any scalar; what it says is judged later, with its place.
func (d *Duration) UnmarshalText(b []byte) error { *d = Duration(b); return nil }

// JSONSchema describes a duration.
func (Duration) JSONSchema() map[string]any {
	return map[string]any{"type": "string", "examples": []any{"90s", "15m", "4h", "7d"}}
}

// Parse reads d; the empty Duration is 0.
func (d Duration) Parse() (time.Duration, error) {
	if d == "" {
		return 0, nil
	}
	return ParseDuration(string(d))
}

// ParseDuration reads a duration that is not negative: Go's words plus d for
// days of 24 hours ("7d", "1d12h"). A number without a unit is an error.
func ParseDuration(s string) (time.Duration, error) {
	rest := s
	var days time.Duration
	if i := strings.IndexByte(rest, 'd'); i > 0 {
		n, err := strconv.ParseFloat(rest[:i], 64)
		if err != nil || !(n >= 0 && n <= 100*365) { // NaN is neither
			return 0, badDuration(s)
		}
		days, rest = time.Duration(n*float64(24*time.Hour)), rest[i+1:]
		if rest == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || d > 100*365*24*time.Hour {
		return 0, badDuration(s)
	}
	return days + d, nil
}

func badDuration(s string) error {
	return fmt.Errorf("%q is no duration (write 90s, 15m, 4h or 7d)", s)
}

// Rate is a number of requests in a window: "60/5m".
type Rate struct {
	N   int
	Per time.Duration
}

// UnmarshalText reads N/DURATION.
func (r *Rate) UnmarshalText(b []byte) error {
	n, per, ok := strings.Cut(string(b), "/")
	num, err := strconv.Atoi(strings.TrimSpace(n))
	if !ok || err != nil || num < 1 {
		return fmt.Errorf("%q is no rate (write 60/5m)", b)
	}
	d, err := ParseDuration(strings.TrimSpace(per))
	if err != nil || d == 0 {
		return fmt.Errorf("%q is no rate (write 60/5m)", b)
	}
	*r = Rate{num, d}
	return nil
}

// JSONSchema describes a rate.
func (Rate) JSONSchema() map[string]any {
	return map[string]any{"type": "string", "pattern": `^[0-9]+/.+$`, "examples": []any{"60/5m"}}
}
