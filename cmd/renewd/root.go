package main

import (
	"os"

	"renewd/agent"
	"renewd/agent/config"
	"renewd/agent/source/spec"
)

const (
	msgRoot      = "agent runs as root, and nothing in its config needs that"
	msgRootGiven = "root given up"
	msgRootKept  = "root kept"
)

// privilege is what became of the rights of root that the agent was started with.
type privilege struct {
	user string // whose rights it has now; "" where it kept root's
	need need   // why it kept them

	blocked error // it kept them and cannot go on
}

// need is something that the service's user cannot do and root can.
type need struct{ what, hint string }

func (p *privilege) String() string {
	if p.user != "" {
		return "runs as " + p.user + ", started as root"
	}
	return "runs as root: " + p.need.what + "; " + p.need.hint
}

// sayRoot logs once what became of root.
func (d *daemon) sayRoot() {
	switch p := d.privilege; {
	case p == nil:
	case p.user != "":
		d.log.Info(msgRootGiven, "user", p.user)
	default:
		d.log.Info(msgRootKept, "reason", p.need.what, agent.KeyHint, p.need.hint)
	}
}

// warnRoot says that a service has more rights than it needs. It keeps them: what
// it made so far belongs to root.
func (d *daemon) warnRoot(c *config.Config, b *built) {
	managed := d.notify.On() || os.Getenv("INVOCATION_ID") != "" || os.Getpid() == 1
	if d.privilege != nil || os.Geteuid() != 0 || !managed || len(b.specs) == 0 || b.runs != "" {
		return
	}
	if _, owned := firstSink(c, func(s *config.Sink) bool { return s.Owner != "" }); owned {
		return
	}
	d.log.Warn(msgRoot, agent.KeyHint, "run it as an account of its own, as the unit of renewd service install does, with User=renewd or with the container's user")
}

// firstSink finds the first sink that is such, and gives its path in the config.
func firstSink(c *config.Config, such func(*config.Sink) bool) (path string, ok bool) {
	for _, name := range sortedKeys(c.Tokens) {
		t := c.Tokens[name]
		for i := range t.Sinks {
			if such(&t.Sinks[i]) {
				return t.PlaceOf().Problem(spec.Problem{Path: spec.Index("sinks", i)}).Path, true
			}
		}
	}
	return "", false
}
