package spec

import (
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

// Present says how a token is presented to its API.
type Present struct {
	Header string `yaml:"header"`
	Value  string `yaml:"value"` // the http source: an expression; elsewhere a text with ${token}
}

// Plain is a Presentation without the http source's expressions.
func (p *Present) Plain() (*agent.Presentation, error) {
	if p == nil {
		return nil, nil
	}
	out := &agent.Presentation{Header: p.Header}
	if p.Value == "" {
		return out, nil
	}
	if strings.Count(p.Value, "${") != strings.Count(p.Value, "${token}") || !strings.Contains(p.Value, "${token}") {
		return nil, errors.New("want a text with ${token} in it, and no other expression")
	}
	value := p.Value
	out.Value = func(token string, _ map[string]string) string {
		return strings.ReplaceAll(value, "${token}", token)
	}
	return out, nil
}
