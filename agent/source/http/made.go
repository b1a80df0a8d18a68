package http

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"strings"
	"time"

	"renewd/agent"
	"renewd/agent/source/life"
	"renewd/agent/source/signer"
	"renewd/agent/source/spec"
)

// made is a login whose token is signed here: nothing is sent.
type made struct {
	sign   *signValue
	index  int // of the var
	minAge time.Duration
	ends   bool // the token says itself when it ends
}

// made compiles a Step without a request.
func (c *compiler) made(path, name string, s *Step) *made {
	m := &made{}
	at := spec.Key(path, "token")
	if name != "login" {
		c.add(at, "is for login: what is signed here is signed anew each time")
	}
	for key, set := range map[string]bool{"request": s.Request != nil, "success": s.Success != nil, "extract": len(s.Extract) > 0,
		"errors": len(s.Errors) > 0, "rejected": s.Rejected != nil} {
		if set {
			c.add(spec.Key(path, key), "a token that is signed here is sent nowhere, so nobody answers")
		}
	}
	c.span(spec.Key(path, "min_age"), s.MinAge, &m.minAge)
	if s.Token == "" {
		c.add(spec.Key(path, "min_age"), "is for a token that is signed here (token: …)")
		return m
	}
	t := c.text(at, s.Token)
	if t == nil {
		return m
	}
	if n := t.whole(); n != nil && n.kind == nodeVar {
		m.index = n.index
		m.sign, _ = c.prog.vars[n.index].(*signValue)
	}
	if m.sign == nil {
		c.add(at, "names no var that is signed").Hint = `token: "${jwt}", and vars: {jwt: {sign: …}}`
		return m
	}
	for i, claim := range m.sign.claims.keys {
		if k, null := m.sign.claims.vals[i].(constant); claim == "exp" {
			m.ends = !null || k.v != nil
			return m
		}
	}
	m.ends = m.sign.lifetime.t != nil || m.sign.lifetime.d > 0
	return m
}

// made tells what a binding makes of a login without a request.
func (b *binder) made(m *made) {
	set := b.src.set
	if set.max == 0 && set.deflt == 0 && (!m.ends || !set.jwt) {
		b.problems.Add("lifetime", "nothing says how long a token that is signed here lives").Hint = "lifetime: {max: …}, or a lifetime of the signature"
		return
	}
	sc := &scope{src: b.src, static: true, vars: map[int]any{}}
	life, err := m.sign.lifetime.get(sc)
	back, err2 := m.sign.backdate.get(sc)
	if err != nil || err2 != nil || life == 0 {
		return
	}
	if life -= back; life <= 0 {
		b.problems.Add("", "a token that is signed here would have expired: it is dated back for longer than it lives")
	}
	if t := &b.src.traits; t.Life == 0 || life < t.Life {
		t.Life = life
	}
}

// make prepares a login whose token is signed here.
func (s *Source) make(m *made, sc *scope) (*agent.Attempt, error) {
	held := sc.session.Token.Reveal()
	sc.session = agent.Session{}
	if _, err := m.token(sc); err != nil {
		return nil, err
	}
	a := &agent.Attempt{}
	a.Send = func(ctx context.Context) (*agent.Grant, error) {
		sc := sc.again()
		sc.ctx = ctx
		now := s.set.clock()
		sc.now = now.Wall // it may have waited for its turn
		token, err := m.token(sc)
		if err != nil {
			return nil, err
		}
		facts := life.Facts{Sent: now.Wall, Date: now.Wall, Max: s.set.max, Default: s.set.deflt}
		if age, young := m.young(held, token, now.Wall); young {
			token = held
			facts.Max, facts.Default = older(facts.Max, age), older(facts.Default, age)
		}
		if s.set.jwt {
			facts.Exp = signer.Peek(token).Exp
		}
		v := life.Compute(facts)
		if !v.Known || v.Life <= 0 {
			return nil, &agent.Error{Kind: agent.Misconfigured, Step: agent.StepLogin, Unsent: true,
				Detail: "the token had expired when it was signed", Hint: "look at the lifetime, exp and backdate of its signature"}
		}
		return &agent.Grant{Sent: now, Token: agent.NewSecret(token), Life: v.Life}, nil
	}
	return a, nil
}

// older takes an age off a declared life; none is none.
func older(life, age time.Duration) time.Duration {
	if life == 0 {
		return 0
	}
	return max(life-age, 1)
}

// token signs. What goes wrong was never sent.
func (m *made) token(sc *scope) (string, error) {
	v, err := sc.variable(m.index)
	if err != nil {
		kind := agent.Misconfigured
		if sc.ctx.Err() != nil {
			kind = agent.Transient
		}
		return "", &agent.Error{Kind: kind, Step: agent.StepLogin, Detail: err.Error(), Unsent: true, Err: err}
	}
	return v.(string), nil
}

// young says that the token which is held already must serve on: it is younger
// than it has to become, and differs from the new one only in its moment.
func (m *made) young(held, token string, now time.Time) (age time.Duration, ok bool) {
	iat := signer.Peek(held).Iat
	if m.minAge == 0 || iat.IsZero() {
		return 0, false
	}
	age = now.Sub(iat)
	return age, age >= 0 && age < m.minAge && timeless(held) != nil && reflect.DeepEqual(timeless(held), timeless(token))
}

// timeless is all of a JWT but its signature and what differs from one to the
// next.
func timeless(token string) map[string]any {
	out := map[string]any{}
	for i, part := range strings.SplitN(token, ".", 3)[:min(2, strings.Count(token, "."))] {
		var m map[string]any
		d := json.NewDecoder(bytes.NewReader(signer.DecodeSegment(part)))
		d.UseNumber()
		if d.Decode(&m) != nil {
			return nil
		}
		maps.DeleteFunc(m, func(k string, _ any) bool { return i == 1 && (k == "iat" || k == "exp" || k == "nbf" || k == "jti") })
		out[string('a'+rune(i))] = m
	}
	return out
}
