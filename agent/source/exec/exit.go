package exec

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"renewd/agent"
	"renewd/agent/source/spec"
)

// Rule says what a program means by its exit status.
type Rule struct {
	Status Exit          `yaml:"status"`
	Means  string        `yaml:"means"`
	Wait   spec.Duration `yaml:"wait"`
	Hint   string        `yaml:"hint"`
}

// Exit is a set of exit statuses: 4, [4, 5].
type Exit []int

// SetTree takes one status or a list of them.
func (x *Exit) SetTree(tree any, _ func(string) string) error {
	list, ok := tree.([]any)
	if !ok {
		list = []any{tree}
	}
	*x = nil
	for _, e := range list {
		n, err := strconv.Atoi(fmt.Sprint(e))
		if err != nil || n < 1 || n > 255 {
			return fmt.Errorf("want an exit status of 1 to 255, or a list of them")
		}
		*x = append(*x, n)
	}
	return nil
}

// JSONSchema describes every way to write an Exit.
func (Exit) JSONSchema() map[string]any {
	one := map[string]any{"type": "integer", "minimum": 1, "maximum": 255}
	return map[string]any{"anyOf": []any{one, map[string]any{"type": "array", "items": one, "minItems": 1}}}
}

// rule is a checked Rule.
type rule struct {
	status Exit
	means  agent.Kind
	wait   time.Duration
	hint   string
}

// wellKnown are the statuses of sysexits.h that tell more than that it failed.
var wellKnown = []rule{
	{status: Exit{75}, means: agent.Transient}, // EX_TEMPFAIL
	{status: Exit{77}, means: agent.Rejected},  // EX_NOPERM
}

// kinds are what a program can mean: it is run for a login, and whole.
func kinds() []string {
	return []string{string(agent.Transient), string(agent.Throttled), string(agent.Rejected),
		string(agent.Locked), string(agent.NeedsHuman), string(agent.Misconfigured)}
}

// check reads what the config says of exit statuses; the well-known ones come last.
func check(rs []Rule, p *spec.Problems) []rule {
	out := make([]rule, 0, len(rs)+len(wellKnown))
	for i, r := range rs {
		path := spec.Index("errors", i)
		if len(r.Status) == 0 {
			p.Add(spec.Key(path, "status"), "an exit status is needed")
		}
		if !slices.Contains(kinds(), r.Means) {
			p.Add(spec.Key(path, "means"), "unknown kind %q", r.Means).Hint = spec.Meant(r.Means, kinds())
		}
		wait, err := r.Wait.Parse()
		if err != nil {
			p.Add(spec.Key(path, "wait"), "%v", err)
		}
		out = append(out, rule{r.Status, agent.Kind(r.Means), wait, r.Hint})
	}
	return append(out, wellKnown...)
}

// ended says what an exit status means. One that nothing tells of may have been a
// refusal, which cost a try: it is not repeated as a failure of the network is.
func (s *Source) ended(e *agent.Error, status int) *agent.Error {
	e.Detail = fmt.Sprintf("run %s: it ended with status %d", s.name(), status)
	if status < 0 {
		e.Detail = fmt.Sprintf("run %s: a signal ended it", s.name())
		return e
	}
	for _, r := range s.rules {
		if slices.Contains(r.status, status) {
			e.Kind, e.Wait, e.Hint = r.means, r.wait, r.hint
			if e.Kind == agent.NeedsHuman && e.Hint == "" {
				e.Hint = "do what the program wants, then run: renewd refresh NAME"
			}
			return e
		}
	}
	e.Kind = agent.Misconfigured
	e.Hint = fmt.Sprintf("run it as the agent's user to see why; what the status means is said by errors: [{status: %d, means: …}]", status)
	return e
}
