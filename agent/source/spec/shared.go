package spec

import (
	"cmp"
	"encoding/base64"
	"errors"
	"strings"

	"renewd/agent"
)

// Lifetime bounds what is known of an access token's life.
type Lifetime struct {
	Max     Duration `yaml:"max"`
	Default Duration `yaml:"default"` // only where nothing else is known
	JWT     *bool    `yaml:"jwt"`     // false: the token's own exp is not read
}

// Check reports the durations that cannot be read, with paths below path.
func (l *Lifetime) Check(path string, p *Problems) {
	if l == nil {
		return
	}
	duration(Key(path, "max"), l.Max, p)
	duration(Key(path, "default"), l.Default, p)
}

// Session says when a session ends whatever is refreshed, and what a refresh does
// to what was there before.
type Session struct {
	MaxAge       Duration `yaml:"max_age"` // from the sending of the login
	MaxRefreshes *int     `yaml:"max_refreshes"`
	Idle         Duration `yaml:"idle"`
	Overlap      string   `yaml:"overlap"`    // none: a refresh kills the old token at once
	Rotates      *bool    `yaml:"rotates"`    // a refresh spends its refresh token
	ReuseSafe    *bool    `yaml:"reuse_safe"` // presenting a spent one again is known not to be punished
}

// Check reports what cannot be, with paths below path.
func (s *Session) Check(path string, p *Problems) {
	if s == nil {
		return
	}
	duration(Key(path, "max_age"), s.MaxAge, p)
	duration(Key(path, "idle"), s.Idle, p)
	if s.MaxRefreshes != nil && *s.MaxRefreshes < 0 {
		p.Add(Key(path, "max_refreshes"), "is below 0")
	}
	if s.Overlap != "" && s.Overlap != "none" && s.Overlap != "full" {
		p.Add(Key(path, "overlap"), "unknown word %q", s.Overlap).Hint = "none: a refresh kills the old token; full: it does not"
	}
}

// Rejected says how refused credentials are treated.
type Rejected struct {
	Tries *int     `yaml:"tries"`
	Probe Duration `yaml:"probe"`
}

// Check reports what cannot be, with paths below path.
func (r *Rejected) Check(path string, p *Problems) {
	if r == nil {
		return
	}
	duration(Key(path, "probe"), r.Probe, p)
	if r.Tries != nil && *r.Tries < 1 {
		p.Add(Key(path, "tries"), "is below 1")
	}
}

// Limits bound what is sent to a host.
type Limits struct {
	Requests    *Rate `yaml:"requests"` // 60/5m
	Concurrency *int  `yaml:"concurrency"`
}

// Check reports what cannot be, with paths below path.
func (l *Limits) Check(path string, p *Problems) {
	if l != nil && l.Concurrency != nil && *l.Concurrency < 1 {
		p.Add(Key(path, "concurrency"), "is below 1")
	}
}

func duration(path string, d Duration, p *Problems) {
	if _, err := d.Parse(); err != nil {
		p.Add(path, "%v", err)
	}
}

// Present says how a token is presented to its API: in a header of its own, in a
// cookie, in the query of the URL, or as HTTP Basic.
type Present struct {
	Header string     `yaml:"header"`
	Value  string     `yaml:"value"`  // of the header, the cookie or the parameter; the http source: an expression; elsewhere a text with ${token}
	Cookie string     `yaml:"cookie"` // its name; its value is the token unless value says otherwise
	Query  string     `yaml:"query"`  // the parameter's name; its value as of a cookie
	Basic  *BasicPair `yaml:"basic"`  // (RFC 7617)
}

// BasicPair is a user name and a password, of which one is made of the token.
type BasicPair struct {
	Username string `yaml:"username"`
	Password string `yaml:"password"`
}

// Over puts what is set in o in the place of what is in p. Another way to present
// a token takes the place of the whole of the old one.
func (p *Present) Over(o *Present) *Present {
	if o == nil || p == nil {
		return cmp.Or(o, p)
	}
	out := *p
	if other := func(o, p string) bool { return o != "" && o != p }; other(o.Header, p.Header) || other(o.Cookie, p.Cookie) || other(o.Query, p.Query) || o.Basic != nil {
		out = Present{}
		if same := func(o, p string) bool { return o != "" && p != "" }; same(o.Header, p.Header) || same(o.Cookie, p.Cookie) || same(o.Query, p.Query) {
			out.Value = p.Value
		}
	}
	out.Header, out.Cookie, out.Query = cmp.Or(o.Header, out.Header), cmp.Or(o.Cookie, out.Cookie), cmp.Or(o.Query, out.Query)
	out.Value, out.Basic = cmp.Or(o.Value, out.Value), cmp.Or(o.Basic, out.Basic)
	return &out
}

// Check reports what cannot be, with paths below path, but for the expressions.
func (p *Present) Check(path string, out *Problems) {
	if p == nil {
		return
	}
	for key, name := range map[string]string{"header": p.Header, "cookie": p.Cookie} {
		if name != "" && !isToken(name) {
			out.Add(Key(path, key), "is no name of a %s", key)
		}
	}
	if strings.ContainsFunc(p.Query, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("&=#+%?", r) }) {
		out.Add(Key(path, "query"), "is no name of a query parameter")
	}
	ways := 0
	for _, given := range []bool{p.Header != "", p.Cookie != "", p.Query != "", p.Basic != nil} {
		if given {
			ways++
		}
	}
	switch {
	case ways > 1, p.Basic != nil && p.Value != "":
		out.Add(path, "header, cookie, query and basic exclude each other")
	case p.Basic != nil && (p.Basic.Username == "" || !strings.Contains(p.Basic.Username+p.Basic.Password, "${")):
		out.Add(Key(path, "basic"), "a user name is needed, and the token in it or in the password")
	}
}

// Make builds the Presentation; text gives what an expression of p makes of a
// token.
func (p *Present) Make(text func(key, expression string) func(token string, extra map[string]string) string) *agent.Presentation {
	out := &agent.Presentation{Header: p.Header, Query: p.Query}
	switch {
	case p.Basic != nil:
		user, password := text("basic.username", p.Basic.Username), text("basic.password", p.Basic.Password)
		out.Value = func(token string, extra map[string]string) string {
			return "Basic " + base64.StdEncoding.EncodeToString([]byte(user(token, extra)+":"+password(token, extra)))
		}
	case p.Cookie != "":
		name, value := p.Cookie, text("value", cmp.Or(p.Value, "${token}"))
		out.Header = "Cookie"
		out.Value = func(token string, extra map[string]string) string { return name + "=" + value(token, extra) }
	case p.Value != "":
		out.Value = text("value", p.Value)
	}
	return out
}

// isToken reports whether s is a token (RFC 9110 §5.6.2), as the names of headers
// and cookies are.
func isToken(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	}) < 0 && s != ""
}

// Plain is a Presentation without the http source's expressions.
func (p *Present) Plain() (*agent.Presentation, error) {
	if p == nil {
		return nil, nil
	}
	var problems Problems
	p.Check("present", &problems)
	if len(problems) > 0 {
		return nil, errors.New(problems[0].Msg)
	}
	var err error
	out := p.Make(func(key, text string) func(string, map[string]string) string {
		n := strings.Count(text, "${token}")
		if strings.Count(text, "${") != n || n == 0 && p.Basic == nil {
			err = errors.New("want a text with ${token} in it, and no other expression")
		}
		return func(token string, _ map[string]string) string { return strings.ReplaceAll(text, "${token}", token) }
	})
	return out, err
}
