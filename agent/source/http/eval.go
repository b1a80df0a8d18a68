package http

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"time"

	"renewd/agent"
	"renewd/agent/secret"
)

// unset is the value of what has none: it is left out of maps and lists.
type unset struct{}

// evaler is a compiled value. What it gives is unset{}, nil (null), bool,
// int64, float64, string, time.Duration (counted in seconds), []any or
// map[string]any.
type evaler interface {
	eval(sc *scope) (any, error)
}

// scope is what one attempt knows.
type scope struct {
	ctx     context.Context
	src     *Source
	session agent.Session
	now     time.Time // by the server's clock where it is known

	// static: nothing is sent; what only an attempt knows is a placeholder.
	static bool

	secrets map[any]agent.Secret // by input index or *secretValue, shared by all tries of an attempt
	digest  hash.Hash            // over the secrets in the order they were used
	vars    map[int]any

	challenge map[string]string // what a server said that was asked; nil: not yet

	timed      bool // something differs from try to try
	signed     bool
	noToken    bool   // an unset token was named
	noRefresh  bool   // an unset refresh token was named
	usesSpends bool   // the refresh token was named
	seed       string // names the input refresh_token, where one is given
}

// placeholder stands in a static scope for what is not yet known.
const placeholder = "x"

// again is a scope for another try of the same attempt.
func (sc *scope) again() *scope {
	return &scope{ctx: sc.ctx, src: sc.src, session: sc.session,
		challenge: sc.challenge, secrets: sc.secrets, digest: sha256.New(), vars: map[int]any{}}
}

// readSecret reads a secret once an attempt.
func (sc *scope) readSecret(key any, h secret.Handle) (any, error) {
	if sc.static {
		return placeholder, nil
	}
	s, ok := sc.secrets[key]
	if !ok {
		var err error
		if s, err = sc.src.set.secrets.Read(sc.ctx, h); err != nil {
			return nil, err
		}
		sc.secrets[key] = s
	}
	sc.digest.Write(append(strconv.AppendInt(make([]byte, 0, 8), int64(len(s.Reveal())), 10), ':'))
	sc.digest.Write([]byte(s.Reveal()))
	return s.Reveal(), nil
}

type constant struct{ v any }

func (c constant) eval(*scope) (any, error) { return c.v, nil }

// secretValue is a secret that the Spec itself names.
type secretValue struct{ h secret.Handle }

func (s *secretValue) eval(sc *scope) (any, error) { return sc.readSecret(s, s.h) }

type listValue []evaler

func (l listValue) eval(sc *scope) (any, error) {
	out := make([]any, 0, len(l))
	for _, e := range l {
		v, err := e.eval(sc)
		if err != nil {
			return nil, err
		}
		if !isUnset(v) {
			out = append(out, v)
		}
	}
	return out, nil
}

// mapValue keeps its keys in order, so that secrets are read in one order.
type mapValue struct {
	keys []string
	vals []evaler
}

func (m mapValue) eval(sc *scope) (any, error) {
	out := make(map[string]any, len(m.keys))
	for i, k := range m.keys {
		v, err := m.vals[i].eval(sc)
		if err != nil {
			return nil, err
		}
		if !isUnset(v) {
			out[k] = v
		}
	}
	return out, nil
}

func isUnset(v any) bool { _, ok := v.(unset); return ok }

func (t *template) eval(sc *scope) (any, error) {
	if n := t.whole(); n != nil {
		return n.eval(sc)
	}
	var b strings.Builder
	gone := false
	for _, p := range t.parts {
		if p.ex == nil {
			b.WriteString(p.lit)
			continue
		}
		v, err := p.ex.eval(sc)
		if err != nil {
			return nil, err
		}
		if isUnset(v) {
			gone = true // but go on: what else is named must be known
			continue
		}
		s, err := toText(v)
		if err != nil {
			return nil, err
		}
		b.WriteString(s)
	}
	if gone {
		return unset{}, nil
	}
	return b.String(), nil
}

func (n *node) eval(sc *scope) (any, error) {
	switch n.kind {
	case nodeLiteral:
		return n.text, nil
	case nodeInput:
		return sc.input(n.index)
	case nodeVar:
		return sc.variable(n.index)
	case nodeToken:
		return sc.sessionValue(sc.session.Token.Reveal(), &sc.noToken), nil
	case nodeRefresh:
		return sc.refreshToken(n.index)
	case nodeExtra:
		return sc.sessionValue(sc.session.Extra[n.text], new(bool)), nil
	case nodeChallenge:
		return sc.fromChallenge(n.text), nil
	case nodeCall:
		return n.call(sc)
	}
	return nil, fmt.Errorf("%q was not looked up", n.text)
}

func (sc *scope) sessionValue(s string, missing *bool) any {
	switch {
	case sc.static:
		return placeholder
	case s == "":
		*missing = true
		return unset{}
	}
	return s
}

// refreshToken is the session's; where there is none, and where the input of
// that name (index -1: none is declared) is not the one that the session grew
// from, it is the input's.
func (sc *scope) refreshToken(index int) (any, error) {
	sc.usesSpends = true
	if index >= 0 && !sc.static {
		v, err := sc.input(index)
		if err != nil {
			return nil, err
		}
		if text, ok := v.(string); ok {
			sc.seed = seedOf(text)
			if sc.session.Dead && sc.session.Seed == sc.seed {
				sc.noRefresh = true
				return unset{}, nil
			}
			if sc.session.RefreshToken.IsZero() || sc.session.Seed != sc.seed {
				return v, nil
			}
		}
	}
	return sc.sessionValue(sc.session.RefreshToken.Reveal(), &sc.noRefresh), nil
}

// seedOf names a refresh token of the config without holding it.
func seedOf(token string) string {
	h := sha256.Sum256([]byte("renewd refresh token of the config\x00" + token))
	return hex.EncodeToString(h[:8])
}

func (n *node) call(sc *scope) (any, error) {
	args := make([]any, len(n.args))
	gone := false
	for i, a := range n.args {
		v, err := a.eval(sc)
		if err != nil {
			return nil, err
		}
		args[i], gone = v, gone || isUnset(v)
	}
	sc.timed = sc.timed || n.fn.timed
	if gone {
		return unset{}, nil
	}
	return n.fn.call(sc, args)
}

func (sc *scope) input(i int) (any, error) {
	switch v := sc.src.value(i).(type) {
	case nil:
		return unset{}, nil
	case agent.Secret:
		return sc.readSecret(i, secret.Ref{Plain: v}.Handle())
	case secret.Handle:
		return sc.readSecret(i, v)
	default:
		return v, nil
	}
}

// variable evaluates a var at its first use, once an attempt.
func (sc *scope) variable(i int) (any, error) {
	if v, ok := sc.vars[i]; ok {
		return v, nil
	}
	v, err := sc.src.set.prog.vars[i].eval(sc)
	if err == nil {
		sc.vars[i] = v
	}
	return v, err
}

// errNotText is told of a list or a mapping inside a longer string.
var errNotText = errors.New("a list or a mapping cannot be part of a text; use join()")

// toText writes a scalar as text.
func toText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case time.Duration:
		return strconv.FormatFloat(v.Seconds(), 'f', -1, 64), nil
	}
	return "", errNotText
}
