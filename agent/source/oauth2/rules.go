package oauth2

import (
	"bytes"
	"regexp"
	"slices"
	"time"

	"renewd/agent"
	"renewd/agent/source/spec"
	"renewd/agent/source/wire"
)

// rule is a checked Rule.
type rule struct {
	Rule
	path    string
	wait    time.Duration
	ptr     spec.Pointer
	equals  []string // nil: not tested
	matches *regexp.Regexp
	present []spec.Pointer
}

func (c *checker) rules(rs []Rule) []rule {
	steps := []string{string(agent.StepLogin), string(agent.StepRefresh), string(agent.StepLogout)}
	var kinds []string
	for _, k := range agent.Kinds() {
		if k != agent.Ambiguous { // that is no answer's
			kinds = append(kinds, string(k))
		}
	}
	out := make([]rule, len(rs))
	for i, r := range rs {
		path := spec.Index("errors", i)
		out[i] = rule{Rule: r, path: path}
		for _, s := range r.Step {
			if !slices.Contains(steps, s) {
				c.add(spec.Key(path, "step"), spec.Meant(s, steps), "unknown step %q", s)
			}
		}
		if !slices.Contains(kinds, r.Means) {
			c.add(spec.Key(path, "means"), spec.Meant(r.Means, kinds), "unknown kind %q", r.Means)
		}
		if len(r.Step) == 0 && r.Status == nil && len(r.Code) == 0 && r.Empty == nil && r.Pointer == nil && len(r.Present) == 0 {
			c.add(path, "give status, code, pointer, present, empty or step", "the rule tests nothing, so it would match every answer, tokens too")
		}
		if len(r.Step) == 1 && r.Step[0] == "login" && r.Means == string(agent.SessionOver) {
			c.add(spec.Key(path, "means"), "rejected, or misconfigured", "a login has no session that could be over")
		}
		c.ruleTexts(path, &out[i])
		var err error
		if out[i].wait, err = r.Wait.Parse(); err != nil {
			c.add(spec.Key(path, "wait"), "", "%v", err)
		}
	}
	return out
}

// ruleTexts reads the tests of what is in the answer's JSON.
func (c *checker) ruleTexts(path string, r *rule) {
	pointer := func(key, text string) spec.Pointer {
		p, err := spec.ParsePointer(text)
		if err != nil {
			c.add(spec.Key(path, key), "", "%v", err)
		}
		return p
	}
	for _, p := range r.Present {
		if p == "" {
			c.add(spec.Key(path, "present"), "", spec.WholeAnswer)
		}
		r.present = append(r.present, pointer("present", p))
	}
	switch tested := !r.Equals.IsZero() || r.Matches != ""; {
	case r.Pointer == nil && tested:
		c.add(path, "", "equals and matches need a pointer")
	case r.Pointer != nil && !tested:
		c.add(path, "to test that it is there, write present", "pointer needs equals or matches")
	}
	if r.Pointer != nil {
		r.ptr = pointer("pointer", *r.Pointer)
	}
	if !r.Equals.IsZero() {
		r.equals = spec.Wanted(r.Equals.V)
	}
	if r.Matches == "" {
		return
	}
	var err error
	if r.matches, err = regexp.Compile(r.Matches); err != nil {
		c.add(spec.Key(path, "matches"), "", "is no regular expression (RE2)")
	}
}

func (r *rule) holds(step agent.Step, a *wire.Answer, rep *reply) bool {
	switch {
	case len(r.Step) > 0 && !slices.Contains(r.Step, string(step)),
		r.Status != nil && !r.Status.Has(a.Status),
		len(r.Code) > 0 && !slices.Contains(r.Code, rep.code),
		r.Empty != nil && *r.Empty != (len(bytes.TrimSpace(a.Body)) == 0):
		return false
	}
	return r.textsHold(rep)
}

func (r *rule) textsHold(rep *reply) bool {
	if r.Pointer == nil && len(r.present) == 0 {
		return true
	}
	doc := rep.document()
	for _, p := range r.present {
		if v, ok := p.Get(doc); !ok || v == nil {
			return false
		}
	}
	if r.Pointer == nil {
		return true
	}
	v, _ := r.ptr.Get(doc)
	text, ok := spec.Scalar(v)
	if !ok || r.equals != nil && !slices.ContainsFunc(r.equals, func(want string) bool { return spec.Same(text, want) }) {
		return false
	}
	return r.matches == nil || r.matches.MatchString(text)
}
