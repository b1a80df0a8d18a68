package http

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"renewd/agent/source/signer"
	"renewd/agent/source/spec"
)

// signValue is a JWT signed for each attempt.
type signValue struct {
	algorithm evaler
	encoding  string
	key       evaler
	keyID     evaler
	headers   mapValue
	claims    mapValue
	lifetime  durationValue
	backdate  durationValue
}

func (s *signValue) parts() []evaler {
	return []evaler{s.algorithm, s.key, s.keyID, s.headers, s.claims, s.lifetime.t, s.backdate.t}
}

func (c *compiler) sign(path string, s *Sign) *signValue {
	algorithm := c.algorithm(spec.Key(path, "algorithm"), s.Algorithm)
	switch s.KeyEncoding {
	case "", "utf8":
	case "base64", "hex":
		if !strings.HasPrefix(s.Algorithm, "HS") {
			c.add(spec.Key(path, "key_encoding"), "is for HS algorithms; a key of %s is PEM", s.Algorithm)
		}
	default:
		c.add(spec.Key(path, "key_encoding"), "unknown encoding %q", s.KeyEncoding).Hint = "utf8, base64 or hex"
	}
	if s.Key.IsZero() {
		c.add(spec.Key(path, "key"), "a key is needed")
	}
	return &signValue{
		algorithm: algorithm, encoding: s.KeyEncoding,
		key:      c.tree(spec.Key(path, "key"), s.Key.V),
		keyID:    c.tree(spec.Key(path, "key_id"), s.KeyID),
		headers:  c.trees(spec.Key(path, "headers"), s.Headers),
		claims:   c.trees(spec.Key(path, "claims"), s.Claims),
		lifetime: c.duration(spec.Key(path, "lifetime"), s.Lifetime),
		backdate: c.duration(spec.Key(path, "backdate"), s.Backdate),
	}
}

// algorithm is a name, or ${an input} whose choices are all names.
func (c *compiler) algorithm(path, text string) evaler {
	t := c.text(path, text)
	if t == nil {
		return constant{unset{}}
	}
	names := []any{text}
	if _, fixed := t.constant(); !fixed {
		names = nil
		if n := t.whole(); n != nil && n.kind == nodeInput {
			for _, used := range c.spec.Inputs[n.text].Choices {
				names = append(names, used.V)
			}
		}
		if len(names) == 0 {
			c.add(path, "want an algorithm, or an input with choices")
		}
	}
	for _, name := range names {
		if s, _ := name.(string); !slices.Contains(signer.Algorithms(), s) {
			c.add(path, "unknown algorithm %q", s).Hint = spec.Meant(s, signer.Algorithms())
		}
	}
	return t
}

func (s *signValue) eval(sc *scope) (any, error) {
	sc.timed, sc.signed = true, true
	if sc.static {
		return placeholder, nil
	}
	t := signer.Token{Now: sc.now}
	material, err := s.material(sc)
	if err != nil {
		return nil, err
	}
	algorithm, err := s.algorithm.eval(sc)
	if err != nil {
		return nil, err
	}
	if t.Algorithm, err = toText(algorithm); err != nil {
		return nil, err
	}
	if t.Key, err = signer.ParseKey(t.Algorithm, material); err != nil {
		return nil, err
	}
	if v, err := s.keyID.eval(sc); err != nil {
		return nil, err
	} else if !isUnset(v) {
		if t.KeyID, err = toText(v); err != nil {
			return nil, err
		}
	}
	if t.Headers, err = s.object(sc, s.headers); err != nil {
		return nil, err
	}
	if t.Claims, err = s.object(sc, s.claims); err != nil {
		return nil, err
	}
	if t.Lifetime, err = s.lifetime.get(sc); err != nil {
		return nil, err
	}
	if t.Backdate, err = s.backdate.get(sc); err != nil {
		return nil, err
	}
	return signer.Sign(t)
}

func (s *signValue) object(sc *scope, m mapValue) (map[string]any, error) {
	v, err := m.eval(sc)
	if err != nil {
		return nil, err
	}
	o, _ := plain(v).(map[string]any)
	return o, nil
}

// material is the key's bytes. Errors of the decoders are not shown: they quote
// what they could not read.
func (s *signValue) material(sc *scope) ([]byte, error) {
	v, err := s.key.eval(sc)
	if err != nil {
		return nil, err
	}
	text, ok := v.(string)
	if !ok || text == "" {
		return nil, errors.New("the key to sign with is unset")
	}
	switch s.encoding {
	case "base64":
		if b := signer.DecodeSegment(strings.TrimSpace(text)); b != nil {
			return b, nil
		}
		return nil, errors.New("the key to sign with is not base64")
	case "hex":
		b, err := hex.DecodeString(strings.TrimSpace(text))
		if err != nil {
			return nil, errors.New("the key to sign with is not hex")
		}
		return b, nil
	}
	return []byte(text), nil
}

// durationValue is a duration, or an expression that gives one.
type durationValue struct {
	d time.Duration
	t *template // nil: d
}

// duration compiles a duration that may be an expression over inputs.
func (c *compiler) duration(path string, d spec.Duration) durationValue {
	t := c.text(path, string(d))
	if t == nil {
		return durationValue{}
	}
	text, ok := t.constant()
	if !ok {
		return durationValue{t: t}
	}
	v, err := spec.Duration(text).Parse()
	if err != nil {
		c.add(path, "%v", err)
	}
	return durationValue{d: v}
}

func (d durationValue) get(sc *scope) (time.Duration, error) {
	if d.t == nil {
		return d.d, nil
	}
	v, err := d.t.eval(sc)
	if err != nil {
		return 0, err
	}
	switch v := v.(type) {
	case unset:
		return 0, nil
	case time.Duration:
		return v, nil
	case int64:
		return time.Duration(v) * time.Second, nil
	case string:
		return spec.ParseDuration(v)
	}
	return 0, fmt.Errorf("want a duration")
}

// plain makes what encoding/json knows of a value.
func plain(v any) any {
	switch v := v.(type) {
	case time.Duration:
		if v%time.Second == 0 {
			return int64(v / time.Second)
		}
		return v.Seconds()
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = plain(e)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = plain(e)
		}
		return out
	}
	return v
}
