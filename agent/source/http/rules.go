package http

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"time"

	"renewd/agent"
	"renewd/agent/source/spec"
)

// rule is a compiled Rule.
type rule struct {
	path    string // names it in details
	steps   []string
	status  *Status
	ptr     spec.Pointer
	hasPtr  bool
	equals  []string // nil: not tested
	matches *regexp.Regexp
	present []spec.Pointer
	empty   *bool
	header  string
	skew    time.Duration

	means   agent.Kind
	wait    durationValue
	waitMax time.Duration
	hint    string
}

func stepNames() []string { return []string{"login", "refresh", "logout", "extend"} }

// meanings are the kinds that a rule may give; ambiguous is no answer's.
func meanings() []string {
	var out []string
	for _, k := range agent.Kinds() {
		if k != agent.Ambiguous {
			out = append(out, string(k))
		}
	}
	return out
}

func (c *compiler) rules(path string, rs []Rule, step string) []rule {
	out := make([]rule, len(rs))
	for i := range rs {
		out[i] = c.rule(spec.Index(path, i), &rs[i], step)
	}
	return out
}

func (c *compiler) rule(path string, r *Rule, step string) rule {
	out := rule{path: path, steps: r.Step, status: r.Status, empty: r.Empty, header: r.Header,
		means: agent.Kind(r.Means), hint: r.Hint, wait: c.duration(spec.Key(path, "wait"), r.Wait)}
	for _, s := range r.Step {
		if !slices.Contains(stepNames(), s) {
			c.add(spec.Key(path, "step"), "unknown step %q", s).Hint = spec.Meant(s, stepNames())
		}
	}
	if !slices.Contains(meanings(), r.Means) {
		c.add(spec.Key(path, "means"), "unknown kind %q", r.Means).Hint = spec.Meant(r.Means, meanings())
	}
	login := step == "login" || step == "" && len(r.Step) == 1 && r.Step[0] == "login"
	if login && out.means == agent.SessionOver {
		c.add(spec.Key(path, "means"), "a login has no session that could be over").Hint = "rejected, or misconfigured"
	}
	c.ruleTests(path, r, &out)
	c.span(spec.Key(path, "wait_max"), r.WaitMax, &out.waitMax)
	c.span(spec.Key(path, "skew"), r.Skew, &out.skew)
	return out
}

// span reads a duration that cannot be an expression.
func (c *compiler) span(path string, d spec.Duration, to *time.Duration) {
	v, err := d.Parse()
	if err != nil {
		c.add(path, "%v", err)
	}
	*to = v
}

func (c *compiler) ruleTests(path string, r *Rule, out *rule) {
	if len(r.Step) == 0 && r.Status == nil && r.Pointer == nil && len(r.Present) == 0 && r.Empty == nil && r.Header == "" && r.Skew == "" {
		c.add(path, "the rule tests nothing, so it would match every answer, tokens too")
	}
	var err error
	if r.Pointer != nil {
		out.hasPtr = true
		if out.ptr, err = spec.ParsePointer(*r.Pointer); err != nil {
			c.add(spec.Key(path, "pointer"), "%v", err)
		}
		if r.Header != "" {
			c.add(path, "pointer and header exclude each other")
		}
		if r.Equals.IsZero() && r.Matches == "" {
			c.add(path, "pointer needs equals or matches; to test that it is there, write present")
		}
	} else if r.Header == "" && (!r.Equals.IsZero() || r.Matches != "") {
		c.add(path, "equals and matches need a pointer or a header")
	}
	if r.Matches != "" {
		if out.matches, err = regexp.Compile(r.Matches); err != nil {
			c.add(spec.Key(path, "matches"), "is no regular expression (RE2)")
		}
	}
	if !r.Equals.IsZero() {
		out.equals = spec.Wanted(r.Equals.V)
	}
	for _, p := range r.Present {
		if p == "" {
			c.add(spec.Key(path, "present"), spec.WholeAnswer)
		}
		out.present = append(out.present, c.pointer(spec.Key(path, "present"), p))
	}
}

func (c *compiler) pointer(path, s string) spec.Pointer {
	p, err := spec.ParsePointer(s)
	if err != nil {
		c.add(path, "%v", err)
	}
	return p
}

// holds says whether all tests of r do.
func (r *rule) holds(a *answer, step string) bool {
	switch {
	case len(r.steps) > 0 && !slices.Contains(r.steps, step):
		return false
	case r.status != nil && !r.status.Has(a.Status):
		return false
	case r.empty != nil && *r.empty != (len(bytes.TrimSpace(a.Body)) == 0):
		return false
	case r.skew > 0 && (!a.HasSkew || a.Skew.Abs() <= r.skew):
		return false
	}
	for _, p := range r.present {
		if v, ok := a.at(p); !ok || v == nil {
			return false
		}
	}
	return r.textHolds(a)
}

func (r *rule) textHolds(a *answer) bool {
	var text string
	switch {
	case r.hasPtr:
		v, ok := a.at(r.ptr)
		if ok {
			text, ok = spec.Scalar(v)
		}
		if !ok {
			return false
		}
	case r.header != "":
		vs := a.Header.Values(r.header)
		if len(vs) == 0 {
			return false
		}
		text = strings.Join(vs, ", ")
	default:
		return true
	}
	if r.equals != nil && !slices.ContainsFunc(r.equals, func(w string) bool { return spec.Same(text, w) }) {
		return false
	}
	return r.matches == nil || r.matches.MatchString(text)
}
