package http

import (
	"bytes"
	"encoding/json"
	nethttp "net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"renewd/agent/source/life"
	"renewd/agent/source/spec"
	"renewd/agent/source/wire"
)

// maxToken is the longest token that is published.
const maxToken = 64 << 10

// extract is a compiled Extract.
type extract struct {
	name     string // of the thing extracted; of an extra without "extra."
	extra    bool
	ptrs     []spec.Pointer
	header   string
	cookie   string
	body     string
	value    *template // nil: it is in the answer
	url      bool      // is made a whole URL
	unit     string
	layout   string
	trim     string
	optional bool
}

// answer is a whole answer, its JSON decoded at most once.
type answer struct {
	*wire.Answer
	url     *url.URL // that was asked
	decoded bool
	isJSON  bool
	doc     any
}

// anyText reads text that is not UTF-8, with U+FFFD in its place, as encoding/json
// does. Where a name is given twice that alone knows what it always made of it.
var anyText = jsontext.AllowInvalidUTF8(true)

// json gives the decoded body; ok is false where it is not one JSON value.
func (a *answer) json() (any, bool) {
	if !a.decoded {
		a.decoded = true
		if hasLongNumber(a.Body) {
			d := json.NewDecoder(bytes.NewReader(a.Body))
			d.UseNumber()
			a.isJSON = d.Decode(&a.doc) == nil && len(bytes.TrimSpace(a.Body[d.InputOffset():])) == 0
		} else {
			a.isJSON = jsonv2.Unmarshal(a.Body, &a.doc, anyText) == nil
			if !a.isJSON {
				a.doc = nil
				a.isJSON = json.Unmarshal(a.Body, &a.doc) == nil
			}
		}
	}
	return a.doc, a.isJSON
}

// hasLongNumber reports whether body may hold a number that a float64 would
// round: one of more than 15 digits. Where there is none the decoder that keeps
// numbers as text, and a copy of the body with them, is not needed.
func hasLongNumber(body []byte) bool {
	run := 0
	for _, c := range body {
		if c < '0' || c > '9' {
			run = 0
		} else if run++; run > 15 {
			return true
		}
	}
	return false
}

func (a *answer) at(p spec.Pointer) (any, bool) {
	doc, ok := a.json()
	if !ok {
		return nil, false
	}
	return p.Get(doc)
}

func extractNames() []string {
	return []string{"token", "refresh_token", "type", "expires_in", "expires_at", "refresh_expires_in",
		"refresh_expires_at", "session_expires_in", "session_expires_at"}
}

func (c *compiler) extracts(path string, m map[string]Extract) []extract {
	var out []extract
	for name, e := range m {
		at := spec.Key(path, name)
		x := extract{name: name, header: e.Header, cookie: e.Cookie, body: e.Body, unit: e.Unit,
			layout: e.Layout, trim: e.Trim, optional: e.Optional}
		x.name, x.extra = strings.CutPrefix(name, "extra.")
		if !x.extra && !slices.Contains(extractNames(), name) {
			c.add(at, "unknown name %q", name).Hint = spec.Meant(name, append(extractNames(), "extra.NAME"))
		}
		c.extractFrom(at, e, &x)
		if e.Unit != "" && !slices.Contains(life.Units(), e.Unit) {
			c.add(spec.Key(at, "unit"), "unknown unit %q", e.Unit).Hint = spec.Meant(e.Unit, life.Units())
		}
		if e.Layout != "" && !life.CheckLayout(e.Layout) {
			c.add(spec.Key(at, "layout"), "unknown layout %q", e.Layout).Hint = spec.Meant(e.Layout, life.Layouts()) + "; or Go's reference time, 2006-01-02 15:04:05"
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b extract) int { return strings.Compare(a.name, b.name) })
	return out
}

func (c *compiler) extractFrom(at string, e Extract, x *extract) {
	n := 0
	for _, p := range e.Pointer {
		x.ptrs = append(x.ptrs, c.pointer(spec.Key(at, "pointer"), p))
	}
	for _, set := range []bool{len(e.Pointer) > 0, e.Header != "", e.Cookie != "", e.Body != "", e.Value != ""} {
		if set {
			n++
		}
	}
	if n != 1 {
		c.add(at, "say where it is: one of pointer, header, cookie, body; or value")
	}
	if e.Value != "" {
		x.value = c.text(spec.Key(at, "value"), e.Value)
		if x.name == "token" || x.name == "refresh_token" {
			c.add(spec.Key(at, "value"), "what is known beforehand is no %s of this answer", x.name)
		}
	}
	if e.As != "" {
		if e.As != "url" {
			c.add(spec.Key(at, "as"), "unknown word %q", e.As).Hint = "url"
		} else if !x.extra {
			c.add(spec.Key(at, "as"), "is for extra.NAME")
		}
		x.url = true
	}
	if e.Body != "" && e.Body != "text" && e.Body != "json" {
		c.add(spec.Key(at, "body"), "unknown body %q", e.Body).Hint = "text or json"
	}
}

// find gives the text of what x names, ok false where the answer has none. A
// token is a text: a number that stands in its place is not taken for one.
func (x *extract) find(a *answer, sc *scope) (string, bool) {
	var text string
	ok := false
	switch {
	case x.value != nil:
		if v, err := x.value.eval(sc); err == nil && !isUnset(v) {
			text, err = toText(v)
			ok = err == nil
		}
	case len(x.ptrs) > 0:
		for _, p := range x.ptrs {
			if text, ok = x.at(a, p); ok && text != "" {
				break
			}
		}
	case x.body == "json":
		text, ok = x.at(a, nil)
	case x.header != "":
		text, ok = a.Header.Get(x.header), true
	case x.cookie != "":
		for _, line := range a.Header.Values("Set-Cookie") {
			if c, err := nethttp.ParseSetCookie(line); err == nil && c.Name == x.cookie {
				text, ok = c.Value, true
			}
		}
	case x.body == "text":
		text, ok = strings.TrimSpace(string(a.Body)), true
	}
	if x.trim != "" {
		text = strings.Trim(text, x.trim)
	}
	return text, ok && text != ""
}

// at gives the scalar at p.
func (x *extract) at(a *answer, p spec.Pointer) (string, bool) {
	v, ok := a.at(p)
	if !ok {
		return "", false
	}
	if _, isText := v.(string); !isText && (x.name == "token" || x.name == "refresh_token") && !x.extra {
		return "", false
	}
	return spec.Scalar(v)
}

// whole makes a URL of what an answer names as one: its path and query on the
// host that was asked. The host that it may name is not believed: it is where a
// token would be sent to.
func (a *answer) whole(text string) (string, bool) {
	u, err := url.Parse(text)
	if err != nil || a.url == nil || u.Opaque != "" {
		return "", false
	}
	to := a.url.ResolveReference(&url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery})
	return to.String(), u.Path != ""
}

// found is what was extracted from an answer.
type found struct {
	token, refresh, typ   string
	extra                 map[string]string
	at                    map[string]time.Time
	spans                 map[string]time.Duration
	missing, bad, illegal []string
}

// read extracts all of xs.
func (a *answer) read(xs []extract, sc *scope) *found {
	f := &found{at: map[string]time.Time{}, spans: map[string]time.Duration{}}
	for i := range xs {
		x := &xs[i]
		text, ok := x.find(a, sc)
		if ok && x.url {
			text, ok = a.whole(text)
		}
		if !ok {
			if !x.optional {
				f.missing = append(f.missing, x.name)
			}
			continue
		}
		f.take(x, text)
	}
	return f
}

func (f *found) take(x *extract, text string) {
	var err error
	switch {
	case x.extra:
		if !headerValue(text) {
			f.illegal = append(f.illegal, "extra."+x.name)
			return
		}
		if f.extra == nil {
			f.extra = map[string]string{}
		}
		f.extra[x.name] = text
	case x.name == "token", x.name == "refresh_token":
		if !LegalToken(text) {
			f.illegal = append(f.illegal, x.name)
		} else if x.name == "token" {
			f.token = text
		} else {
			f.refresh = text
		}
	case x.name == "type":
		if !headerName(text) {
			f.illegal = append(f.illegal, x.name)
			return
		}
		f.typ = text
	case strings.HasSuffix(x.name, "_in"):
		f.spans[x.name], err = life.ReadSpan(text, x.unit)
	case strings.HasSuffix(x.name, "_at"):
		f.at[x.name], err = life.ReadTime(text, x.unit, x.layout)
	}
	if err != nil {
		delete(f.spans, x.name)
		delete(f.at, x.name)
		if !x.optional {
			f.bad = append(f.bad, x.name)
		}
	}
}

// span gives expires_in and its like, nil where not said.
func (f *found) span(name string) *time.Duration {
	if d, ok := f.spans[name]; ok {
		return &d
	}
	return nil
}

// LegalToken reports whether s may be published: 1 byte to 64 KiB of 0x21–0x7E.
func LegalToken(s string) bool {
	if s == "" || len(s) > maxToken {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
