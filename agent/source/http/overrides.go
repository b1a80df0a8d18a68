package http

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/spec"
	"renewd/agent/source/wire"
)

// settings are what tokens of one Program with equal Overrides share.
type settings struct {
	prog    *Program
	client  *wire.Client
	clock   agent.Clock
	secrets *secret.Resolver

	max, deflt time.Duration // of an access token's life
	jwt        bool
	session    agent.SessionLimits
	noOverlap  bool
	rotates    bool
	reuseSafe  bool
	rejected   *Rejected // set beside the inputs: it wins over an alternative's
	limits     agent.HostLimits
	present    *agent.Presentation
}

// over puts what is set in o in the place of what is in s, key by key.
func (s Overrides) over(o *Overrides) Overrides {
	if o == nil {
		return s
	}
	if o.Lifetime != nil {
		l := deref(s.Lifetime)
		pick(&l.Max, o.Lifetime.Max)
		pick(&l.Default, o.Lifetime.Default)
		pick(&l.JWT, o.Lifetime.JWT)
		s.Lifetime = &l
	}
	if o.Session != nil {
		l := deref(s.Session)
		pick(&l.MaxAge, o.Session.MaxAge)
		pick(&l.MaxRefreshes, o.Session.MaxRefreshes)
		pick(&l.Idle, o.Session.Idle)
		pick(&l.Overlap, o.Session.Overlap)
		pick(&l.Rotates, o.Session.Rotates)
		pick(&l.ReuseSafe, o.Session.ReuseSafe)
		s.Session = &l
	}
	if o.Rejected != nil {
		r := overRejected(o.Rejected, s.Rejected)
		s.Rejected = &r
	}
	if o.Limits != nil {
		l := deref(s.Limits)
		pick(&l.Requests, o.Limits.Requests)
		pick(&l.Concurrency, o.Limits.Concurrency)
		s.Limits = &l
	}
	s.Present = s.Present.Over(o.Present)
	if o.TLS != nil {
		t := deref(s.TLS).Over(o.TLS)
		s.TLS = &t
	}
	pick(&s.Proxy, o.Proxy)
	return s
}

// overRejected puts what is set in r in the place of what is in base.
func overRejected(r, base *Rejected) Rejected {
	out := deref(base)
	if r != nil {
		pick(&out.Tries, r.Tries)
		pick(&out.Probe, r.Probe)
	}
	return out
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// pick sets *dst where v is set.
func pick[T comparable](dst *T, v T) {
	var zero T
	if v != zero {
		*dst = v
	}
}

// overrides checks the keys that a token may set too, at path ("" or a token's).
func (c *compiler) overrides(path string, o *Overrides) {
	at := func(keys ...string) string {
		p := path
		for _, k := range keys {
			p = spec.Key(p, k)
		}
		return p
	}
	o.Lifetime.Check(at("lifetime"), &c.problems)
	o.Session.Check(at("session"), &c.problems)
	o.Rejected.Check(at("rejected"), &c.problems)
	o.Limits.Check(at("limits"), &c.problems)
	o.Present.Check(at("present"), &c.problems)
	c.presentation(at("present"), o.Present)
}

// presentation compiles how a token is shown to its API; nil: as Bearer.
func (c *compiler) presentation(path string, p *Present) *agent.Presentation {
	if p == nil {
		return nil
	}
	c.only = func(n *node) string {
		if n.kind != nodeToken && n.kind != nodeExtra && n.kind != nodeCall {
			return "a presentation names token and extra.X, nothing else"
		}
		return ""
	}
	defer func() { c.only = nil }()
	return p.Make(func(key, expression string) func(string, map[string]string) string {
		t := c.text(path+"."+key, expression)
		return func(token string, extra map[string]string) string {
			if t == nil { // a problem, which was told
				return ""
			}
			v, err := t.eval(&scope{session: agent.Session{Token: agent.NewSecret(token), Extra: extra}})
			if err != nil || isUnset(v) {
				return ""
			}
			s, _ := toText(v)
			return s
		}
	})
}

// bindSettings gives the settings for o, shared with all who have equal ones.
func (p *Program) bindSettings(o *Overrides, env *Env) (*settings, spec.Problems) {
	none := o == nil || *o == Overrides{}
	p.mu.Lock()
	usual, of := p.usual, p.usualOf
	p.mu.Unlock()
	if none && usual != nil && of == env {
		return usual, nil
	}
	all := p.spec.Overrides
	all = Overrides{TLS: env.TLS, Proxy: env.Proxy}.over(&all).over(o)
	var own *Rejected
	if o != nil {
		own = o.Rejected
	}
	plain, err := json.Marshal(struct {
		O       Overrides
		Own     *Rejected // it goes before an alternative's, the Spec's behind
		NoProxy []string
		Env     string
	}{all, own, env.NoProxy, fmt.Sprintf("%p %p", env.Transports, env.Secrets)})
	if err != nil {
		plain = fmt.Append(nil, all)
	}
	key := sha256.Sum256(plain)
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.settings[key]
	if s == nil {
		var problems spec.Problems
		s, problems = p.newSettings(&all, env)
		s.rejected = own
		if len(problems) > 0 {
			return s, problems // warnings are told to each token
		}
		p.settings[key] = s
	}
	if none {
		p.usual, p.usualOf = s, env
	}
	return s, nil
}

func (p *Program) newSettings(o *Overrides, env *Env) (*settings, spec.Problems) {
	c := &compiler{spec: p.spec, prog: p, funcs: map[string]*function{}, inputs: map[string]int{},
		vars: map[string]int{}, extras: map[string]bool{}, loose: map[string]bool{}}
	for _, f := range functions() {
		c.funcs[f.name] = f
	}
	c.declare()
	c.problems = nil // the Spec's own were told by Compile
	c.overrides("", o)
	s := &settings{prog: p, clock: env.clock(), secrets: env.Secrets, jwt: true}
	var tls spec.Problems
	s.client, tls = env.Transports.Client(wire.Settings{TLS: deref(o.TLS), Proxy: o.Proxy, NoProxy: env.NoProxy})
	c.problems = append(c.problems, tls...)
	if l := o.Lifetime; l != nil {
		s.max, _ = l.Max.Parse()
		s.deflt, _ = l.Default.Parse()
		s.jwt = l.JWT == nil || *l.JWT
	}
	for _, st := range p.refresh {
		for _, x := range st.extracts {
			s.rotates = s.rotates || x.name == "refresh_token" && !x.extra && !x.optional
		}
	}
	if v := o.Session; v != nil {
		s.session.MaxAge, _ = v.MaxAge.Parse()
		s.session.Idle, _ = v.Idle.Parse()
		s.session.MaxRefreshes = deref(v.MaxRefreshes)
		s.noOverlap, s.reuseSafe = v.Overlap == "none", deref(v.ReuseSafe)
		if v.Rotates != nil {
			s.rotates = *v.Rotates
		}
	}
	if l := o.Limits; l != nil {
		r := deref(l.Requests)
		s.limits = agent.HostLimits{Concurrency: deref(l.Concurrency), Requests: r.N, Per: r.Per}
	}
	s.present = c.presentation("present", o.Present)
	return s, c.problems
}
