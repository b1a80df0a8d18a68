package http

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
	"unique"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/spec"
)

// input is a compiled Input.
type input struct {
	name    string
	decl    *Input
	types   []string
	secret  bool
	deflt   evaler // nil: none
	lo, hi  any    // int64, time.Duration or nil
	choices []string
}

// InputTypes are the words for the type of an input.
func InputTypes() []string {
	return []string{"string", "secret", "url", "integer", "boolean", "duration", "list"}
}

// IsSecret reports whether the input holds a secret.
func (i Input) IsSecret() bool { return i.Secret || slices.Contains(i.Type, "secret") }

func (c *compiler) compileInputs() {
	names := slices.Sorted(maps.Keys(c.spec.Inputs))
	c.prog.inputs = make([]input, len(names))
	for i, name := range names {
		decl := c.spec.Inputs[name]
		c.prog.inputs[i] = c.input(spec.Key("inputs", name), name, &decl)
	}
	for i, in := range c.prog.inputs {
		if in.deflt != nil && cyclic(i, len(names), func(j int) []int { return inputsOf(c.prog.inputs[j].deflt) }) {
			c.add(spec.Key(spec.Key("inputs", in.name), "default"), "%q needs itself", in.name)
		}
	}
	for i, group := range c.spec.OneOf {
		for _, n := range group {
			if _, ok := c.inputs[n]; !ok {
				c.add(spec.Index("one_of", i), "%q is no input", n).Hint = spec.Meant(n, names)
			} else if c.spec.Inputs[n].Required {
				c.add(spec.Index("one_of", i), "%q is required already", n)
			}
		}
	}
}

func inputsOf(e evaler) (out []int) {
	walk(e, func(n *node) {
		if n.kind == nodeInput {
			out = append(out, n.index)
		}
	})
	return out
}

func (c *compiler) input(path, name string, d *Input) input {
	in := input{name: name, decl: d, types: d.Type, secret: d.IsSecret()}
	if len(in.types) == 0 {
		in.types = []string{"string"}
	}
	for _, t := range in.types {
		if !slices.Contains(InputTypes(), t) {
			c.add(spec.Key(path, "type"), "unknown type %q", t).Hint = spec.Meant(t, InputTypes())
		}
	}
	in.choices = slices.Sorted(maps.Keys(d.Choices))
	in.lo = c.bound(spec.Key(path, "min"), &in, d.Min.V)
	in.hi = c.bound(spec.Key(path, "max"), &in, d.Max.V)
	if d.Default.IsZero() {
		return in
	}
	at := spec.Key(path, "default")
	c.only = func(n *node) string {
		if n.kind != nodeInput || c.spec.Inputs[n.text].IsSecret() {
			return "a default names inputs that are no secrets, and nothing else"
		}
		return ""
	}
	in.deflt = c.tree(at, d.Default.V)
	c.only = nil
	if k, ok := in.deflt.(constant); ok && !isUnset(k.v) {
		v, err := in.typed(k.v)
		if err != nil {
			c.add(at, "%v", err)
		}
		in.deflt = constant{v}
	}
	return in
}

func (c *compiler) bound(path string, in *input, v any) any {
	if v == nil {
		return nil
	}
	if slices.Contains(in.types, "integer") {
		if n, ok := v.(int64); ok {
			return n
		}
	} else if slices.Contains(in.types, "duration") {
		if s, ok := v.(string); ok {
			d, err := spec.ParseDuration(s)
			if err == nil {
				return d
			}
		}
	}
	c.add(path, "wants an integer for an integer, or a duration for a duration")
	return nil
}

// typed checks a value that was given and gives what is used: nil for unset.
func (in *input) typed(v any) (any, error) {
	if v == nil || v == "" && !in.secret {
		return nil, nil
	}
	if len(in.choices) > 0 {
		return in.choose(v)
	}
	var first error
	for _, t := range in.types {
		if in.secret {
			t = "secret"
		}
		out, err := in.as(t, v)
		if err == nil {
			return out, in.inBounds(out)
		}
		if first == nil {
			first = err
		}
	}
	if len(in.types) > 1 {
		return nil, fmt.Errorf("want one of %s", strings.Join(in.types, ", "))
	}
	return nil, first
}

func (in *input) choose(v any) (any, error) {
	text, err := toText(v)
	if err != nil {
		return nil, fmt.Errorf("want one of %s", strings.Join(in.choices, ", "))
	}
	used, ok := in.decl.Choices[text]
	if !ok {
		err := fmt.Errorf("%q is not one of %s", text, strings.Join(in.choices, ", "))
		if near := spec.Nearest(text, in.choices); near != "" {
			err = fmt.Errorf("%w; did you mean %s?", err, near)
		}
		return nil, err
	}
	return used.V, nil
}

// as reads a value as one type. No error quotes the value: a password may have
// been put at the wrong key.
func (in *input) as(typ string, v any) (any, error) {
	s, isText := v.(string)
	switch typ {
	case "secret":
		return asSecret(v)
	case "url":
		if !isText {
			return nil, fmt.Errorf("want a URL")
		}
		return asURL(s)
	case "integer":
		if n, ok := v.(int64); ok {
			return n, nil
		}
		return nil, fmt.Errorf("want an integer")
	case "boolean":
		if b, ok := v.(bool); ok {
			return b, nil
		}
		return nil, fmt.Errorf("want true or false")
	case "duration":
		if d, ok := v.(time.Duration); ok {
			return d, nil
		}
		if !isText {
			return nil, fmt.Errorf("want a duration (90s, 15m, 4h, 7d)")
		}
		d, err := spec.ParseDuration(s)
		if err != nil {
			return nil, fmt.Errorf("want a duration (90s, 15m, 4h, 7d)")
		}
		return d, nil
	case "list":
		if l, ok := v.([]any); ok {
			return asList(l)
		}
		return nil, fmt.Errorf("want a list")
	}
	if !isText {
		if _, ok := v.(secret.Ref); ok {
			return nil, fmt.Errorf("is no secret, so it stands here as it is")
		}
		return nil, fmt.Errorf("want a text: write it in quotes")
	}
	return s, nil
}

func asSecret(v any) (any, error) {
	switch v := v.(type) {
	case string:
		if v == "" {
			return nil, fmt.Errorf("the secret is empty; it would cost a try")
		}
		return agent.NewSecret(v), nil // itself, without a Handle's box
	case secret.Ref:
		return v.Handle(), v.Check()
	}
	return nil, fmt.Errorf("want a secret: {file: …}, {credential: …}, {command: […]}, or a text in quotes")
}

func asURL(s string) (any, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("is no URL; write https://HOST/PATH")
	case u.User != nil:
		return nil, fmt.Errorf("credentials do not belong into a URL")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("the URL has a query or a fragment, so nothing can be put behind it")
	}
	return unique.Make[any](strings.TrimRight(s, "/")).Value(), nil // one for all tokens there
}

func asList(l []any) (any, error) {
	for _, e := range l {
		if _, err := toText(e); err != nil {
			return nil, fmt.Errorf("want a list of scalars")
		}
	}
	if len(l) == 0 {
		return nil, nil
	}
	return l, nil
}

func (in *input) inBounds(v any) error {
	switch v := v.(type) {
	case int64:
		if lo, ok := in.lo.(int64); ok && v < lo {
			return fmt.Errorf("is below %d", lo)
		}
		if hi, ok := in.hi.(int64); ok && v > hi {
			return fmt.Errorf("is above %d", hi)
		}
	case time.Duration:
		if lo, ok := in.lo.(time.Duration); ok && v < lo {
			return fmt.Errorf("is below %v", lo)
		}
		if hi, ok := in.hi.(time.Duration); ok && v > hi {
			return fmt.Errorf("is above %v", hi)
		}
	}
	return nil
}
