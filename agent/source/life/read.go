package life

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"renewd/agent/source/signer"
)

// Units are the words for the unit of a number.
func Units() []string { return []string{"s", "ms", "us", "min"} }

func unit(u string) float64 {
	switch u {
	case "ms":
		return 1e-3
	case "us":
		return 1e-6
	case "min":
		return 60
	}
	return 1
}

// ReadSpan reads a number of units (seconds where not said) or H:MM:SS, as text.
// It may be fractional, zero or negative; absurdly large ones are cut.
func ReadSpan(text, u string) (time.Duration, error) {
	text = strings.TrimSpace(text)
	if parts := strings.Split(text, ":"); len(parts) == 3 && u == "" {
		var sec float64
		for _, p := range parts {
			n, err := strconv.ParseUint(p, 10, 31)
			if err != nil {
				return 0, errSpan
			}
			sec = sec*60 + float64(n)
		}
		return seconds(sec), nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(f, 0) || math.IsNaN(f) {
		return 0, errSpan
	}
	return seconds(f * unit(u)), nil
}

var (
	errSpan = fmt.Errorf("it is no number of seconds")
	errTime = fmt.Errorf("it is no time")
)

func seconds(f float64) time.Duration {
	most := Longest.Seconds()
	return time.Duration(max(-most, min(f, most)) * float64(time.Second))
}

// Layouts are the names of layouts for ReadTime.
func Layouts() []string {
	return []string{"rfc3339", "rfc1123", "rfc1123z", "rfc850", "rfc822", "rfc822z", "ansic", "unixdate", "datetime"}
}

func layout(name string) string {
	switch strings.ToLower(name) {
	case "rfc3339":
		return time.RFC3339Nano
	case "rfc1123":
		return time.RFC1123
	case "rfc1123z":
		return time.RFC1123Z
	case "rfc850":
		return time.RFC850
	case "rfc822":
		return time.RFC822
	case "rfc822z":
		return time.RFC822Z
	case "ansic":
		return time.ANSIC
	case "unixdate":
		return time.UnixDate
	case "datetime":
		return time.DateTime
	}
	return name
}

// CheckLayout says whether ReadTime will understand a layout: a name, or Go's
// reference time written in the server's way.
func CheckLayout(name string) bool {
	l := layout(name)
	return l != name || strings.Contains(l, "2006") || strings.Contains(l, "06")
}

// guesses are tried where no layout is declared: what servers really write.
var guesses = [...]string{
	time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", // Graylog: no colon in the zone
	time.RFC1123Z, time.RFC1123, "2006-01-02T15:04:05.999999999", time.DateTime,
}

// ReadTime reads an absolute time: a number since 1970 in u (told by its size
// where u is empty), or text in a layout. Zero time, no error: the server says
// that there is none (0, "").
func ReadTime(text, u, lay string) (time.Time, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return time.Time{}, nil
	}
	if lay != "" {
		t, err := time.Parse(layout(lay), text)
		if err != nil {
			return time.Time{}, errTime
		}
		return t.UTC(), nil
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		return readEpoch(f, u)
	}
	for _, g := range guesses {
		if t, err := time.Parse(g, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, errTime
}

func readEpoch(f float64, u string) (time.Time, error) {
	switch {
	case f == 0:
		return time.Time{}, nil
	case math.IsNaN(f) || math.IsInf(f, 0) || f < 0:
		return time.Time{}, errTime
	case u == "":
		t := signer.Epoch(f)
		if t.IsZero() {
			return t, errTime
		}
		return t, nil
	}
	f *= unit(u)
	const year9999 = 253402300799
	sec, frac := math.Modf(min(f, year9999))
	return time.Unix(int64(sec), int64(frac*1e9)).UTC(), nil
}
