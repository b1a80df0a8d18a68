package http

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/spec"
	"renewd/agent/source/wire"
)

// Env is what a token's Source gets from the process around it. It is not changed
// once something was bound in it.
type Env struct {
	Now        agent.Clock      // the one that Transports have; nil: the wall clock
	Secrets    *secret.Resolver // nil: one without memory
	Transports *wire.Transports // shared by all sources; required

	// The config's `defaults`; a preset's and a token's own keys go over them.
	TLS     *wire.TLS
	Proxy   string
	NoProxy []string
}

func (e *Env) clock() agent.Clock {
	if e.Now != nil {
		return e.Now
	}
	start := time.Now()
	return func() agent.Instant { n := time.Now(); return agent.Instant{Wall: n, Boot: n.Sub(start)} }
}

// Source is one token's source: its input values, and what it shares.
type Source struct {
	set    *settings
	values []any // by input: nil (unset), a value, *string for a text of its own, an agent.Secret or a secret.Handle
	traits agent.Traits

	// Which alternatives hold, -1: none.
	login, refresh, extend, logout int8
}

// Inputs are the declared inputs by name.
func (p *Program) Inputs() map[string]Input { return p.spec.Inputs }

// OneOf are the groups of inputs of which exactly one is given.
func (p *Program) OneOf() [][]string { return p.spec.OneOf }

// Bind makes one token's Source of a Program: values are its inputs, over the
// keys set beside them (nil: none). Paths of problems are relative to the
// mapping that `type` stands in.
func (p *Program) Bind(values map[string]spec.Value, over *Overrides, env *Env) (*Source, []Problem) {
	b := &binder{prog: p, given: values, src: &Source{values: make([]any, len(p.inputs))}, typed: map[string]string{}}
	var problems spec.Problems
	b.src.set, problems = p.bindSettings(over, env)
	b.problems = problems
	b.unknown()
	b.read()
	if !b.problems.Fatal() {
		b.defaults()
		b.groups()
	}
	if !b.problems.Fatal() {
		b.alternatives()
		b.traits()
	}
	if b.problems.Fatal() {
		return nil, b.problems
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.room.place(b.src, b.own), b.problems
}

// binder is one Bind under way.
type binder struct {
	prog     *Program
	given    map[string]spec.Value
	src      *Source
	own      []int             // inputs whose value is a text of this token alone
	typed    map[string]string // as written, for `when: is`
	problems spec.Problems
}

func (b *binder) unknown() {
	names := slices.Collect(maps.Keys(b.prog.spec.Inputs))
	for name := range b.given {
		if _, ok := b.prog.spec.Inputs[name]; !ok {
			b.problems.Add(spec.Key("", name), "unknown key %q", name).Hint = spec.Meant(name, append(names, OverrideKeys()...))
		}
	}
}

func (b *binder) read() {
	for i := range b.prog.inputs {
		in := &b.prog.inputs[i]
		v := b.given[in.name].V
		_, there := b.given[in.name]
		if v == nil && there && in.secret {
			v = "" // an empty secret is an error, however it is written
		}
		used, err := in.typed(v)
		if err != nil {
			b.problems.Add(in.name, "%v", err).Hint = in.decl.Help
		}
		if text, err := toText(v); err == nil && !in.secret {
			b.typed[in.name] = text
		}
		b.src.values[i] = used
		if _, text := used.(string); text && len(in.choices) == 0 && !slices.Contains(in.types, "url") {
			b.own = append(b.own, i)
		}
	}
}

// defaults fills in what was not given. A default that names an unset input is
// itself unset.
func (b *binder) defaults() {
	sc := &scope{src: b.src, static: true}
	done := make([]bool, len(b.prog.inputs))
	var fill func(i int)
	fill = func(i int) {
		in := &b.prog.inputs[i]
		if done[i] || b.src.values[i] != nil || in.deflt == nil {
			return
		}
		done[i] = true
		for _, j := range inputsOf(in.deflt) {
			fill(j)
		}
		v, err := in.deflt.eval(sc)
		if _, isConst := in.deflt.(constant); err == nil && !isUnset(v) {
			if !isConst {
				v, err = in.typed(v)
			}
			b.src.values[i] = v
		}
		if err != nil {
			b.problems.Add("", "default of %s: %v", in.name, err)
		}
	}
	for i := range b.prog.inputs {
		fill(i)
		in := &b.prog.inputs[i]
		if b.src.values[i] != nil {
			if text, err := toText(b.src.values[i]); err == nil && b.typed[in.name] == "" {
				b.typed[in.name] = text
			}
			continue
		}
		if in.decl.Required {
			p := b.problems.Add(b.place(in.name), "%s is missing", in.name)
			p.Hint = in.decl.Help
			if from := defaultFrom(b.prog, in); from != "" {
				p.Hint = "give " + from + " or " + in.name
			}
		}
	}
}

func defaultFrom(p *Program, in *input) string {
	var names []string
	for _, j := range inputsOf(in.deflt) {
		names = append(names, p.inputs[j].name)
	}
	return strings.Join(names, " and ")
}

// place is the path of an input where it was written, else that of the whole.
func (b *binder) place(name string) string {
	if _, ok := b.given[name]; ok {
		return name
	}
	return ""
}

func (b *binder) has(name string) bool {
	i, ok := slices.BinarySearchFunc(b.prog.inputs, name, func(in input, n string) int { return strings.Compare(in.name, n) })
	return ok && b.src.values[i] != nil
}

// groups checks that exactly one group of one_of is given whole, and nothing of
// the others.
func (b *binder) groups() {
	if len(b.prog.spec.OneOf) == 0 {
		return
	}
	whole := 0
	for _, g := range b.prog.spec.OneOf {
		all := !slices.ContainsFunc(g, func(n string) bool { return !b.has(n) })
		stray := slices.ContainsFunc(slices.Concat(b.prog.spec.OneOf...), func(n string) bool {
			return !slices.Contains(g, n) && b.has(n)
		})
		if all && !stray {
			whole++
		}
	}
	if whole == 1 {
		return
	}
	var names []string
	for _, g := range b.prog.spec.OneOf {
		names = append(names, strings.Join(g, " and "))
	}
	b.problems.Add("", "give exactly one of: %s", strings.Join(names, "; or "))
}

func (b *binder) alternatives() {
	pick := func(steps []step) int8 {
		for i := range steps {
			if b.holds(steps[i].when) {
				return int8(i)
			}
		}
		return -1
	}
	s := b.src
	s.login, s.refresh, s.extend, s.logout = pick(b.prog.login), pick(b.prog.refresh), pick(b.prog.extend), pick(b.prog.logout)
}

func (b *binder) holds(w *When) bool {
	if w == nil {
		return true
	}
	for _, n := range w.Given {
		if !b.has(n) {
			return false
		}
	}
	for _, n := range w.Missing {
		if b.has(n) {
			return false
		}
	}
	for n, v := range w.Is {
		if !b.has(n) || b.typed[n] != fmt.Sprint(v.V) {
			return false
		}
	}
	return true
}

func (b *binder) traits() {
	s, set := b.src, b.src.set
	t := &s.traits
	*t = agent.Traits{Type: b.prog.name, Session: set.session, Limits: set.limits, Presentation: set.present,
		CanRefresh: s.refresh >= 0 || s.extend >= 0, CanLogout: s.logout >= 0, NeedsPerson: s.login < 0,
		SelfStart:   s.login < 0 && b.has("refresh_token"),
		OverlapNone: set.noOverlap, Rotates: set.rotates, ReuseSafe: set.reuseSafe, Life: set.max}
	if t.Life == 0 {
		t.Life = set.deflt
	}
	if s.login >= 0 && b.prog.login[s.login].made != nil {
		b.made(b.prog.login[s.login].made)
	}
	rej := set.rejected
	base := b.prog.spec.Rejected
	if s.login >= 0 {
		alt := overRejected(b.prog.login[s.login].rejected, base)
		base = &alt
	}
	r := overRejected(rej, base)
	t.Rejected.Tries = deref(r.Tries)
	t.Rejected.Probe, _ = r.Probe.Parse()
	b.hosts()
	b.lifeKnown()
	t.Fingerprint = b.fingerprint()
}

// hosts finds where requests go, as far as the inputs tell.
func (b *binder) hosts() {
	told := ""
	for _, st := range b.src.steps() {
		asked := st.request
		if st.challenge != nil {
			asked = st.challenge.request
		}
		if asked == nil || asked.url.fromAnswer() {
			continue // the latter is on a host that was asked before
		}
		sc := &scope{src: b.src, static: true, vars: map[int]any{}}
		u, err := asked.buildURL(sc)
		if err == nil {
			err = b.src.set.client.CheckURL(u)
		}
		if err != nil {
			if told != err.Error() {
				b.problems.Add(b.urlPlace(), "%s: %v", st.name, err)
			}
			told = err.Error()
			continue
		}
		names := b.src.set.client.Host(u).Names
		switch {
		case len(b.src.traits.Hosts) == 0:
			b.src.traits.Hosts = names // shared: not appended to
		case !slices.Contains(b.src.traits.Hosts, names[0]):
			b.src.traits.Hosts = slices.Concat(b.src.traits.Hosts, names)
		}
	}
}

// urlPlace is where a URL was given, if one was.
func (b *binder) urlPlace() string {
	for _, in := range b.prog.inputs {
		if slices.Contains(in.types, "url") && b.place(in.name) != "" {
			return in.name
		}
	}
	return ""
}

// steps are the alternatives that hold.
func (s *Source) steps() (out []*step) {
	p := s.set.prog
	for _, alt := range []struct {
		steps []step
		i     int8
	}{{p.login, s.login}, {p.refresh, s.refresh}, {p.extend, s.extend}, {p.logout, s.logout}} {
		if alt.i >= 0 {
			out = append(out, &alt.steps[alt.i])
		}
	}
	return out
}

// lifeKnown tells of a source whose tokens' life nothing can ever say.
func (b *binder) lifeKnown() {
	set := b.src.set
	if set.max > 0 || set.deflt > 0 || set.jwt {
		return
	}
	for _, st := range b.src.steps() {
		told := slices.ContainsFunc(st.extracts, func(x extract) bool {
			return !x.extra && (x.name == "expires_in" || x.name == "expires_at")
		})
		if !told && st.kind != agent.StepLogout && st.made == nil {
			b.problems.Add("lifetime", "nothing says how long a token of this %s lives", st.name).Hint = "lifetime: {max: …} or {default: …}, or extract expires_in"
		}
	}
}

// fingerprint is of all that makes another session; secrets are no part of it.
func (b *binder) fingerprint() string {
	h := sha256.New()
	fmt.Fprintf(h, "%s %x %d %d %d\n", b.prog.name, b.prog.core, b.src.login, b.src.refresh, b.src.extend)
	for i, v := range b.src.values {
		if !b.prog.inputs[i].secret && v != nil {
			fmt.Fprintf(h, "%s=%v\n", b.prog.inputs[i].name, v)
		}
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// principal names who logs in: the texts among the inputs, but for URLs, choices
// and secrets. Scopes are lists and no part of it: the same client with other
// scopes is locked with the first.
func (s *Source) principal(sc *scope) string {
	var parts []string
	if who := s.set.prog.who; who != nil {
		// It may be read from a secret, so it is not kept as it is. What cannot be
		// told is unset.
		if v, err := who.eval(sc.again()); err == nil && !isUnset(v) {
			if text, err := toText(v); err == nil {
				sum := sha256.Sum256([]byte(text))
				parts = append(parts, base64.RawURLEncoding.EncodeToString(sum[:12]))
			}
		}
	}
	for i := range s.values {
		in, v := &s.set.prog.inputs[i], s.value(i)
		text, ok := v.(string)
		if n, number := v.(int64); number && slices.Contains(in.types, "string") {
			text, ok = strconv.FormatInt(n, 10), true // a name that is written as a number
		}
		if ok && len(in.choices) == 0 && !slices.Contains(in.types, "url") && !slices.Contains(in.types, "list") {
			parts = append(parts, text)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.set.prog.spec.Vars)) {
		if text, ok := s.set.prog.spec.Vars[name].Value.V.(string); ok && !strings.Contains(text, "${") && !strings.Contains(text, "://") {
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, "\x1f")
}
