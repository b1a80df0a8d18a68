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
	if _, err := l.Max.Parse(); err != nil {
		p.Add(Key(path, "max"), "%v", err)
	}
	if _, err := l.Default.Parse(); err != nil {
		p.Add(Key(path, "default"), "%v", err)
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
