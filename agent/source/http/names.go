package http

import (
	"maps"
	"slices"
	"sort"
	"strings"

	"renewd/agent/secret"
	"renewd/agent/source/spec"
)

// compiler turns a Spec into a Program and gathers what is wrong with it.
type compiler struct {
	spec     *Spec
	prog     *Program
	funcs    map[string]*function
	inputs   map[string]int
	vars     map[string]int
	extras   map[string]bool
	loose    map[string]bool // extras that may be on another host, were they URLs
	problems spec.Problems

	challenged bool // within a step that asks for a challenge

	only func(n *node) string // what a place does not allow, "" where it does
}

func (c *compiler) add(path, format string, args ...any) *Problem {
	return c.problems.Add(path, format, args...)
}

// text compiles a string that may hold expressions; nil after a problem.
func (c *compiler) text(path, s string) *template {
	t, err := parseTemplate(s)
	if err != nil {
		c.add(path, "%v", err)
		return nil
	}
	before := len(c.problems)
	for _, p := range t.parts {
		if p.ex != nil {
			c.lookup(path, p.ex)
		}
	}
	if len(c.problems) > before {
		return nil
	}
	return t
}

// lookup finds what the names of an expression stand for.
func (c *compiler) lookup(path string, n *node) {
	if n.kind == nodeCall {
		c.lookupCall(path, n)
		return
	}
	if n.kind != nodeName {
		return
	}
	extra, isExtra := strings.CutPrefix(n.text, "extra.")
	param, isParam := strings.CutPrefix(n.text, "challenge.")
	in, isInput := c.inputs[n.text]
	v, isVar := c.vars[n.text]
	switch {
	case n.text == "token":
		n.kind = nodeToken
	case n.text == "refresh_token":
		n.kind, n.index = nodeRefresh, -1
		if isInput {
			n.index = in
		}
	case isParam && c.challenged && param != "":
		n.kind, n.text = nodeChallenge, param
	case isExtra && c.extras[extra]:
		n.kind, n.text = nodeExtra, extra
	case isInput:
		n.kind, n.index = nodeInput, in
	case isVar:
		n.kind, n.index = nodeVar, v
	default:
		c.add(path, "unknown name %q", n.text).Hint = spec.Meant(n.text, c.names())
		return
	}
	if c.only != nil {
		if why := c.only(n); why != "" {
			c.add(path, "%s", why)
		}
	}
}

func (c *compiler) lookupCall(path string, n *node) {
	fn := c.funcs[n.text]
	if fn == nil {
		c.add(path, "unknown function %q", n.text).Hint = spec.Meant(n.text, slices.Collect(maps.Keys(c.funcs)))
		return
	}
	n.fn = fn
	if len(n.args) < fn.min || len(n.args) > fn.max {
		c.add(path, "%s takes %s", fn.name, count(fn.min, fn.max))
		return
	}
	for _, a := range n.args {
		c.lookup(path, a)
	}
	if fn.check != nil {
		if err := fn.check(n.args); err != nil {
			c.add(path, "%v", err)
		}
	}
}

func count(low, high int) string {
	words := [...]string{"no argument", "one argument", "two arguments"}
	if low == high {
		return words[low]
	}
	return words[low] + " or " + strings.TrimSuffix(strings.TrimSuffix(words[high], " arguments"), " argument")
}

// names are all that an expression can name.
func (c *compiler) names() []string {
	out := []string{"token", "refresh_token"}
	for n := range c.inputs {
		out = append(out, n)
	}
	for n := range c.vars {
		out = append(out, n)
	}
	for n := range c.extras {
		out = append(out, "extra."+n)
	}
	sort.Strings(out)
	return slices.Compact(out)
}

// tree compiles any value of a body, a claim or a literal.
func (c *compiler) tree(path string, v any) evaler {
	switch v := v.(type) {
	case string:
		t := c.text(path, v)
		if t == nil {
			return constant{unset{}}
		}
		if s, ok := t.constant(); ok {
			return constant{s}
		}
		return t
	case []any:
		out := make(listValue, len(v))
		for i, e := range v {
			out[i] = c.tree(spec.Index(path, i), e)
		}
		return out
	case map[string]any:
		for k, e := range v {
			if _, isText := e.(string); len(v) == 1 && isText && slices.Contains([]string{"file", "env", "credential", "keyring"}, k) {
				p := c.add(path, "is sent as it stands here, a mapping: %s is not read", k)
				p.Hint, p.Warn = "if it is a secret, put it into vars under a name and write ${name} here", true
			}
		}
		return c.mapping(path, v)
	case secret.Ref:
		if err := v.Check(); err != nil {
			c.add(path, "%v", err)
		}
		s := &secretValue{v.Handle()}
		c.prog.secrets = append(c.prog.secrets, namedSecret{path, s.h})
		return s
	default:
		return constant{v}
	}
}

func (c *compiler) mapping(path string, m map[string]any) mapValue {
	out := mapValue{keys: slices.Sorted(maps.Keys(m))}
	for _, k := range out.keys {
		if strings.Contains(k, "${") && !strings.Contains(k, "$${") {
			c.add(spec.Key(path, k), "a key cannot be an expression")
		}
		out.vals = append(out.vals, c.tree(spec.Key(path, k), m[k]))
	}
	return out
}

// trees is mapping for a map of Trees.
func (c *compiler) trees(path string, m map[string]spec.Tree) mapValue {
	plain := make(map[string]any, len(m))
	for k, t := range m {
		plain[k] = t.V
	}
	return c.mapping(path, plain)
}

// walk calls f with every name and call that a value uses.
func walk(e evaler, f func(*node)) {
	switch e := e.(type) {
	case *template:
		if e == nil {
			return
		}
		for _, p := range e.parts {
			if p.ex != nil {
				walkNode(p.ex, f)
			}
		}
	case listValue:
		for _, v := range e {
			walk(v, f)
		}
	case mapValue:
		for _, v := range e.vals {
			walk(v, f)
		}
	case *signValue:
		for _, v := range e.parts() {
			walk(v, f)
		}
	}
}

func walkNode(n *node, f func(*node)) {
	f(n)
	for _, a := range n.args {
		walkNode(a, f)
	}
}
