package http

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"renewd/agent"
	"renewd/agent/source/spec"
)

// clockOff is how far a server's clock may be off before it is thought to be
// why a signed login was refused.
const clockOff = 30 * time.Second

// success is a compiled Success.
type success struct {
	status  *Status // nil: any 2xx
	present []spec.Pointer
	absent  []spec.Pointer
	equals  []equal
}

type equal struct {
	ptr  spec.Pointer
	want []string
}

func (c *compiler) success(path string, s *Success) success {
	if s == nil {
		return success{}
	}
	path = spec.Key(path, "success")
	out := success{status: s.Status}
	for _, p := range s.Present {
		out.present = append(out.present, c.pointer(spec.Key(path, "present"), p))
	}
	for _, p := range s.Absent {
		out.absent = append(out.absent, c.pointer(spec.Key(path, "absent"), p))
	}
	for p, v := range s.Equals {
		at := spec.Key(spec.Key(path, "equals"), p)
		out.equals = append(out.equals, equal{c.pointer(at, p), spec.Wanted(v.V)})
	}
	if s.Status != nil {
		for code := 300; code < 400; code++ {
			if s.Status.Has(code) {
				c.add(spec.Key(path, "status"), "a redirect is never a success")
				break
			}
		}
	}
	return out
}

func (s *success) statusOK(code int) bool {
	if s.status != nil {
		return s.status.Has(code) && code/100 != 3
	}
	return code/100 == 2
}

// bodyOK says whether the tests of the body hold; null counts as absent.
func (s *success) bodyOK(a *answer) bool {
	there := func(p spec.Pointer) bool { v, ok := a.at(p); return ok && v != nil }
	if slices.ContainsFunc(s.absent, there) {
		return false
	}
	for _, p := range s.present {
		if !there(p) {
			return false
		}
	}
	for _, e := range s.equals {
		v, _ := a.at(e.ptr)
		text, ok := spec.Scalar(v)
		if !ok || !slices.ContainsFunc(e.want, func(w string) bool { return spec.Same(text, w) }) {
			return false
		}
	}
	return true
}

// judge says what a whole answer means: what was extracted, or why not.
func (st *step) judge(a *answer, sc *scope, shared []rule) (*found, *agent.Error) {
	for _, rules := range [2][]rule{st.rules, shared} {
		for i := range rules {
			if rules[i].holds(a, st.name) {
				return nil, st.ruled(&rules[i], a, sc)
			}
		}
	}
	if !st.success.statusOK(a.Status) || a.isPage() {
		return nil, st.unmatched(a, sc)
	}
	f := a.read(st.extracts, sc)
	_, isJSON := a.json()
	switch {
	case st.readsJSON && !isJSON:
		return nil, st.misses(a, "it is not JSON")
	case !st.success.bodyOK(a):
		return nil, st.misses(a, "its body is not that of a success")
	case len(f.illegal) > 0:
		return nil, st.misses(a, "its "+strings.Join(f.illegal, ", ")+" is longer than 64 KiB or has bytes that no header can carry")
	case len(f.missing) > 0:
		return nil, st.misses(a, "it has no "+strings.Join(f.missing, ", "))
	case len(f.bad) > 0:
		return nil, st.misses(a, "its "+strings.Join(f.bad, ", ")+" cannot be read")
	}
	return f, nil
}

// isPage reports whether the answer is a page for people. Without a body it is
// none, whatever type a server gives to nothing.
func (a *answer) isPage() bool { return len(a.Body) > 0 && a.IsHTML() }

func (st *step) error(k agent.Kind, wait time.Duration, format string, args ...any) *agent.Error {
	return &agent.Error{Kind: k, Step: st.kind, Wait: wait, Detail: fmt.Sprintf(format, args...)}
}

func (st *step) misses(a *answer, why string) *agent.Error {
	e := st.error(agent.Misconfigured, 0, "server answered %d, but %s", a.Status, why)
	e.Hint = "look at the URL, and at success and extract of this step"
	return e
}

func (st *step) ruled(r *rule, a *answer, sc *scope) *agent.Error {
	wait, err := r.wait.get(sc)
	if err != nil {
		wait = 0
	}
	wait = max(wait, a.RetryAfter())
	if r.waitMax > 0 {
		wait = min(wait, r.waitMax)
	}
	kind := r.means
	if kind == agent.SessionOver && st.kind == agent.StepLogin {
		kind = agent.Rejected // a login has no session
	}
	e := st.error(kind, wait, "server answered %d (%s)", a.Status, r.path)
	e.Hint = r.hint
	return e
}

// unmatched classes what no rule knows by its status alone. An outage is told
// in HTML more often than not, so the statuses of one come first.
func (st *step) unmatched(a *answer, sc *scope) *agent.Error {
	wait := a.RetryAfter()
	said := fmt.Sprintf("server answered %d", a.Status)
	switch code := a.Status; {
	case code == 429, code == 503 && wait > 0:
		return st.error(agent.Throttled, wait, "%s", said)
	case code == 408, code == 425, code/100 == 5 && code != 511:
		return st.error(agent.Transient, wait, "%s", said)
	case code/100 == 3:
		e := st.error(agent.Misconfigured, wait, "%s, a redirect that is not followed", said)
		e.Hint = "use the URL that it leads to"
		return e
	case a.isPage():
		e := st.error(agent.Misconfigured, wait, "%s with a page for people", said)
		e.Hint = "a captive portal, a proxy or another URL than the API's"
		return e
	case code == 404, code == 405, code == 407, code == 511:
		e := st.error(agent.Misconfigured, wait, "%s", said)
		e.Hint = "look at the URL"
		return e
	case code/100 != 4:
		return st.misses(a, "that is not a status of success")
	case st.kind != agent.StepLogin:
		return st.error(agent.SessionOver, wait, "%s", said)
	case sc.signed && a.HasSkew && a.Skew.Abs() > clockOff:
		return st.error(agent.ClockOff, wait, "%s", said)
	}
	return st.error(agent.Rejected, wait, "%s", said)
}
