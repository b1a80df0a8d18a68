package life_test

import (
	"testing"
	"time"

	"renewd/agent/source/life"
)

var t0 = time.Date(2026, 11, 1, 12, 0, 0, 300e6, time.UTC) // ours, when the request was sent

func at(d time.Duration) time.Time { return t0.Truncate(time.Second).Add(d) }

func in(d time.Duration) *time.Duration { return &d }

func TestCompute(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		name       string
		f          life.Facts
		want       time.Duration
		known      bool
		unanchored bool
	}{
		{"nothing", life.Facts{}, life.Longest, false, false},
		{"max alone", life.Facts{Max: 60 * s}, 60 * s, true, true},
		{"default alone", life.Facts{Default: 4 * time.Hour}, 4 * time.Hour, true, true},
		{"default gives way", life.Facts{Default: s, ExpiresIn: in(60 * s)}, 59 * s, true, false},
		{"max clips", life.Facts{Max: 30 * s, ExpiresIn: in(60 * s)}, 30 * s, true, true},
		{"max does not lengthen", life.Facts{Max: 90 * s, ExpiresIn: in(60 * s)}, 59 * s, true, false},
		{"whole seconds lose one", life.Facts{ExpiresIn: in(60 * s)}, 59 * s, true, false},
		{"but a quarter at most", life.Facts{ExpiresIn: in(2 * s)}, 1500 * time.Millisecond, true, false},
		{"fractions are taken as told", life.Facts{ExpiresIn: in(1500 * time.Millisecond)}, 1500 * time.Millisecond, true, false},
		{"zero", life.Facts{ExpiresIn: in(0)}, 0, true, false},
		{"negative", life.Facts{ExpiresIn: in(-5 * s), Max: 60 * s}, -5 * s, true, false},
		{"exp by the server's Date", life.Facts{Date: at(-600 * s), Exp: at(-540 * s)}, 59 * s, true, false},
		{"exp of a server ahead", life.Facts{Date: at(600 * s), Exp: at(660 * s), Iat: at(600 * s)}, 59 * s, true, false},
		{"cached token: Date gives less than iat", life.Facts{Date: at(0), Iat: at(-50 * s), Exp: at(10 * s)}, 9 * s, true, false},
		{"cached Date: iat gives less", life.Facts{Date: at(-300 * s), Iat: at(0), Exp: at(60 * s)}, 59 * s, true, true},
		{"no Date: iat", life.Facts{Sent: t0, Iat: at(-600 * s), Exp: at(-540 * s)}, 59 * s, true, true},
		{"no Date, no iat: our clock", life.Facts{Sent: t0, Exp: at(60 * s)}, 58700 * time.Millisecond, true, false},
		{"expires_at and exp: the earlier", life.Facts{Date: at(0), ExpiresAt: at(30 * s), Exp: at(60 * s)}, 29 * s, true, false},
		{"exp is the hard limit, max the access window", life.Facts{Date: at(0), Exp: at(900 * s), Max: 60 * s}, 60 * s, true, true},
		{"already over", life.Facts{Date: at(0), Exp: at(-s)}, -s, true, false},
		{"year 9999", life.Facts{Date: at(0), Exp: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}, life.Longest, true, false},
		{"huge expires_in", life.Facts{ExpiresIn: in(1<<63 - 1)}, life.Longest, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := life.Compute(c.f)
			if v.Life != c.want || v.Known != c.known || v.Unanchored != c.unanchored {
				t.Errorf("got %v known=%v unanchored=%v; want %v %v %v", v.Life, v.Known, v.Unanchored, c.want, c.known, c.unanchored)
			}
		})
	}
}

func TestSpan(t *testing.T) {
	f := life.Facts{Date: at(0)}
	for _, c := range []struct {
		in   *time.Duration
		at   time.Time
		want time.Duration
		ok   bool
	}{
		{nil, time.Time{}, 0, false},
		{in(0), time.Time{}, 0, false}, // Keycloak's offline tokens
		{in(time.Hour), time.Time{}, time.Hour - time.Second, true},
		{in(time.Hour), at(30 * time.Minute), 30*time.Minute - time.Second, true},
		{nil, at(-time.Minute), 0, false},
	} {
		if d, ok := life.Span(f, c.in, c.at); d != c.want || ok != c.ok {
			t.Errorf("%v %v: got %v %v; want %v %v", c.in, c.at, d, ok, c.want, c.ok)
		}
	}
}

func TestSkew(t *testing.T) {
	for _, c := range []struct {
		date    time.Time
		want    time.Duration
		ok, far bool
	}{
		{time.Time{}, 0, false, false},
		{at(0), -300 * time.Millisecond, true, false}, // half of the second, half of the way
		{at(600 * time.Second), 600*time.Second - 300*time.Millisecond, true, false},
		{at(25 * time.Hour), 0, false, true},
		{at(-25 * time.Hour), 0, false, true},
	} {
		got, ok, far := life.Skew(t0, t0.Add(time.Second), c.date)
		if got != c.want || ok != c.ok || far != c.far {
			t.Errorf("%v: got %v %v %v", c.date, got, ok, far)
		}
	}
}

func TestReadSpan(t *testing.T) {
	for _, c := range []struct {
		text, unit string
		want       time.Duration
		bad        bool
	}{
		{"60", "", time.Minute, false},
		{"1799", "s", 1799 * time.Second, false},
		{"1.5", "s", 1500 * time.Millisecond, false},
		{"90000", "ms", 90 * time.Second, false},
		{"5", "min", 5 * time.Minute, false},
		{"0", "", 0, false},
		{"-3", "", -3 * time.Second, false},
		{"1e300", "", life.Longest, false},
		{"99999999999999999999999999", "", life.Longest, false},
		{"4:00:30", "", 4*time.Hour + 30*time.Second, false},
		{"NaN", "", 0, true},
		{"soon", "", 0, true},
		{"", "", 0, true},
	} {
		got, err := life.ReadSpan(c.text, c.unit)
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%q %q: got %v, %v", c.text, c.unit, got, err)
		}
	}
}

func TestReadTime(t *testing.T) {
	want := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct{ text, unit, layout string }{
		{"1793534400", "", ""}, {"1793534400", "s", ""}, {"1793534400000", "", ""}, {"1793534400000", "ms", ""},
		{"1793534400000000", "us", ""}, {"1793534400000000", "", ""}, {"2026-11-01T12:00:00Z", "", ""},
		{"2026-11-01T13:00:00+01:00", "", ""}, {"2026-11-01T12:00:00.000+0000", "", ""},
		{"Sun, 01 Nov 2026 08:00:00 -0400", "", ""}, {"Sun, 01 Nov 2026 12:00:00 GMT", "", "rfc1123"},
		{"01.11.2026 12:00", "", "02.01.2006 15:04"}, {"2026-11-01 12:00:00", "", "datetime"},
	} {
		got, err := life.ReadTime(c.text, c.unit, c.layout)
		if err != nil || !got.Equal(want) {
			t.Errorf("%+v: got %v, %v", c, got, err)
		}
	}
	for _, c := range []string{"", "0"} {
		if got, err := life.ReadTime(c, "", ""); err != nil || !got.IsZero() {
			t.Errorf("%q: got %v, %v; want none", c, got, err)
		}
	}
	for _, c := range []string{"tomorrow", "-5", "NaN", "12"} {
		if got, err := life.ReadTime(c, "", ""); err == nil {
			t.Errorf("%q: got %v; want an error", c, got)
		}
	}
	if got, err := life.ReadTime("9999-12-31T23:59:59Z", "", ""); err != nil || got.Year() != 9999 {
		t.Errorf("year 9999: %v, %v", got, err)
	}
	if got, err := life.ReadTime("1e99", "s", ""); err != nil || got.Year() != 9999 {
		t.Errorf("absurd epoch: %v, %v", got, err)
	}
}
