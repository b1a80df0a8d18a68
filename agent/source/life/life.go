// Package life says how long a token will be accepted, as a pure function of
// what a server told and what was declared.
package life

import "time"

// MaxSkew is how far a server's clock may be from ours before it is taken for
// that of a captive portal.
const MaxSkew = 24 * time.Hour

// Longest bounds every life, so that "never" stays a number to count with.
const Longest = 100 * 365 * 24 * time.Hour

// Facts are what is known of one token. Zero means: not known.
type Facts struct {
	Sent time.Time // when the request was sent, by our wall clock
	Date time.Time // the server's now: Date plus Age; zero where missing or not believed

	ExpiresIn *time.Duration // as the server told it, counted from Sent
	ExpiresAt time.Time      // as the server told it, by its clock
	Exp, Iat  time.Time      // the token's own, unverified

	Max     time.Duration // declared: clips everything
	Default time.Duration // declared: where nothing else is known
}

// Verdict is what Compute makes of Facts.
type Verdict struct {
	Life  time.Duration // from Sent; at most Longest; may be 0 or less: already over
	Known bool          // false: nothing is known

	// Unanchored says that nothing in the answer ties the life to now: it rests
	// on the token's own iat or on a declaration. Where a server hands out the
	// same token again, its expiry must not move.
	Unanchored bool
}

// Compute gives the smallest of the lives that are known.
func Compute(f Facts) Verdict {
	v := Verdict{Life: Longest}
	take := func(d time.Duration, unanchored bool) {
		if !v.Known || d < v.Life {
			v = Verdict{Life: d, Known: true, Unanchored: unanchored}
		}
	}
	if f.ExpiresIn != nil {
		take(shortest(*f.ExpiresIn, whole(*f.ExpiresIn)), false)
	}
	for _, at := range []time.Time{f.ExpiresAt, f.Exp} {
		if !at.IsZero() {
			d, byIat := Until(f, at)
			take(d, byIat)
		}
	}
	switch {
	case f.Max > 0:
		take(f.Max, true)
	case !v.Known && f.Default > 0:
		take(f.Default, true)
	}
	v.Life = min(v.Life, Longest)
	return v
}

// Until counts from Sent to a time on the server's clock. Its now is Date; the
// token's iat where Date is missing or where that gives less, since some servers
// hand out cached tokens and some caches old Dates; ours where there is neither.
func Until(f Facts, at time.Time) (d time.Duration, byIat bool) {
	now := f.Date
	if now.IsZero() {
		now = f.Sent
		if !f.Iat.IsZero() {
			now, byIat = f.Iat, true
		}
	} else if f.Iat.After(now) {
		now, byIat = f.Iat, true
	}
	// Date counts whole seconds, so it may be almost one behind.
	return shortest(at.Sub(now), at.Nanosecond() == 0 || now.Nanosecond() == 0), byIat
}

// Span counts from Sent to an end that a server told in either way, ok false
// where it told none. Servers write 0 for "no such end".
func Span(f Facts, in *time.Duration, at time.Time) (d time.Duration, ok bool) {
	if in != nil && *in > 0 {
		d, ok = shortest(*in, whole(*in)), true
	}
	if !at.IsZero() {
		if u, _ := Until(f, at); u > 0 && (!ok || u < d) {
			d, ok = u, true
		}
	}
	return min(d, Longest), ok
}

func whole(d time.Duration) bool { return d%time.Second == 0 }

// shortest reads a clock of whole seconds at its shortest meaning: one second
// less, but never more than a quarter of the life.
func shortest(d time.Duration, whole bool) time.Duration {
	if !whole || d <= 0 {
		return d
	}
	return d - min(time.Second, d/4)
}

// Skew is the server's clock less ours. A Date tells the whole second that has
// begun, so half a second is added; sent and received are ours. ok is false
// where date is missing; far where it is further off than MaxSkew.
func Skew(sent, received, date time.Time) (skew time.Duration, ok, far bool) {
	if date.IsZero() {
		return 0, false, false
	}
	ours := sent.Add(received.Sub(sent) / 2)
	skew = date.Add(time.Second / 2).Sub(ours)
	if skew > MaxSkew || skew < -MaxSkew {
		return 0, false, true
	}
	return skew, true, false
}
