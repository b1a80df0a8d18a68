package http

import (
	"bytes"
	"encoding/json"
	nethttp "net/http"
	"slices"
	"strconv"
	"strings"
	"time"

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
	ptr      pointer // where from, if hasPtr
	hasPtr   bool
	header   string
	cookie   string
	body     string
	unit     string
	layout   string
	trim     string
	optional bool
}

// answer is a whole answer, its JSON decoded at most once.
type answer struct {
	*wire.Answer
	decoded bool
	isJSON  bool
	doc     any
}

// json gives the decoded body; ok is false where it is not one JSON value.
func (a *answer) json() (any, bool) {
	if !a.decoded {
		a.decoded = true
		if hasLongNumber(a.Body) {
			d := json.NewDecoder(bytes.NewReader(a.Body))
			d.UseNumber()
			a.isJSON = d.Decode(&a.doc) == nil && len(bytes.TrimSpace(a.Body[d.InputOffset():])) == 0
		} else {
			a.isJSON = json.Unmarshal(a.Body, &a.doc) == nil
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

func (a *answer) at(p pointer) (any, bool) {
	doc, ok := a.json()
	if !ok {
		return nil, false
	}
	return p.get(doc)
}

// scalar is the text of a JSON scalar, ok false for null, lists and objects.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case bool:
		if v {
			return "true", true
		}
		return "false", true
	}
	return "", false
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
	if e.Pointer != nil {
		n++
		x.hasPtr = true
		var err error
		if x.ptr, err = parsePointer(*e.Pointer); err != nil {
			c.add(spec.Key(at, "pointer"), "%v", err)
		}
	}
	for _, set := range []bool{e.Header != "", e.Cookie != "", e.Body != ""} {
		if set {
			n++
		}
	}
	if n != 1 {
		c.add(at, "say where it is: one of pointer, header, cookie, body")
	}
	if e.Body != "" && e.Body != "text" && e.Body != "json" {
		c.add(spec.Key(at, "body"), "unknown body %q", e.Body).Hint = "text or json"
	}
}

// find gives the text of what x names, ok false where the answer has none. A
// token is a text: a number that stands in its place is not taken for one.
func (x *extract) find(a *answer) (string, bool) {
	var text string
	ok := false
	switch {
	case x.hasPtr || x.body == "json":
		var v any
		if v, ok = a.at(x.ptr); ok {
			if _, isText := v.(string); !isText && (x.name == "token" || x.name == "refresh_token") && !x.extra {
				return "", false
			}
			text, ok = scalar(v)
		}
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

// found is what was extracted from an answer.
type found struct {
	token, refresh, typ   string
	extra                 map[string]string
	at                    map[string]time.Time
	spans                 map[string]time.Duration
	missing, bad, illegal []string
}

// read extracts all of xs.
func (a *answer) read(xs []extract) *found {
	f := &found{at: map[string]time.Time{}, spans: map[string]time.Duration{}}
	for i := range xs {
		x := &xs[i]
		text, ok := x.find(a)
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
