// Package exec is the source whose tokens a program prints.
package exec

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/secret/child"
	"renewd/agent/source/output"
	"renewd/agent/source/spec"
)

const maxTimeout = 30 * time.Second

// Spec is what stands beside `type: exec`.
type Spec struct {
	Command  []string              `yaml:"command"` // the program and its arguments; no shell
	Format   string                `yaml:"format"`  // raw (default), json, exec_credential, aws
	Timeout  spec.Duration         `yaml:"timeout"` // at most and by default 30 s
	Env      map[string]secret.Ref `yaml:"env"`     // beside PATH, HOME and LANG
	Errors   []Rule                `yaml:"errors"`  // what exit statuses mean
	Lifetime *spec.Lifetime        `yaml:"lifetime"`
	Rejected *spec.Rejected        `yaml:"rejected"`
	Present  *spec.Present         `yaml:"present"`
}

// Source is one token's source.
type Source struct {
	spec    *Spec
	clock   agent.Clock
	timeout time.Duration
	rules   []rule
	traits  agent.Traits

	principal string
}

// New checks s and makes a Source of it, nil after a problem.
func New(s *Spec, clock agent.Clock) (*Source, []spec.Problem) {
	var p spec.Problems
	src := &Source{spec: s, clock: clock, timeout: maxTimeout}
	if len(s.Command) == 0 || s.Command[0] == "" {
		p.Add("command", "a program is needed").Hint = "command: [PROGRAM, ARGUMENT, …]"
	}
	if len(s.Command) > 0 && !filepath.IsAbs(s.Command[0]) && strings.ContainsAny(s.Command[0], `/\`) {
		p.Add("command", "is neither a name nor an absolute path").Hint = "write the program's whole path"
	}
	if s.Format != "" && !slices.Contains(output.Formats(), s.Format) {
		p.Add("format", "unknown format %q", s.Format).Hint = spec.Meant(s.Format, output.Formats())
	}
	if d, err := s.Timeout.Parse(); err != nil {
		p.Add("timeout", "%v", err)
	} else if d > maxTimeout {
		p.Add("timeout", "is above %v, which bounds each attempt", maxTimeout)
	} else if d > 0 {
		src.timeout = d
	}
	for name := range s.Env {
		if strings.ContainsAny(name, "=\x00") || name == "" {
			p.Add(spec.Key("env", name), "is no name of a variable")
		}
	}
	src.rules = check(s.Errors, &p)
	s.Lifetime.Check("lifetime", &p)
	s.Rejected.Check("rejected", &p)
	present, err := s.Present.Plain()
	if err != nil {
		p.Add("present.value", "%v", err)
	}
	if p.Fatal() {
		return nil, p
	}
	src.traits = agent.Traits{Type: "exec", Presentation: present}
	if s.Lifetime != nil {
		src.traits.Life, _ = s.Lifetime.Max.Parse()
	}
	if r := s.Rejected; r != nil {
		if r.Tries != nil {
			src.traits.Rejected.Tries = *r.Tries
		}
		src.traits.Rejected.Probe, _ = r.Probe.Parse()
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "exec %q %q", s.Command, s.Format))
	src.traits.Fingerprint = base64.RawURLEncoding.EncodeToString(sum[:16])
	// Whose account a program logs in to is mostly told by its arguments: two scripts of
	// one shell have nothing in common.
	line := sha256.Sum256(fmt.Appendf(nil, "%q", s.Command))
	src.principal = filepath.Base(s.Command[0]) + " " + base64.RawURLEncoding.EncodeToString(line[:16])
	return src, p
}

// Program is the program's path, which others must not be able to change.
func (s *Source) Program() string { return s.spec.Command[0] }

// Traits implements agent.Source.
func (s *Source) Traits() *agent.Traits { return &s.traits }

// Files are the files whose change may change a secret of this source.
func (s *Source) Files() (out []string) {
	for _, r := range s.spec.Env {
		if f := r.Handle().File(); f != "" {
			out = append(out, f)
		}
	}
	return out
}

// Prepare implements agent.Source. A program only ever logs in.
func (s *Source) Prepare(ctx context.Context, step agent.Step, _ agent.Session) (*agent.Attempt, error) {
	if step != agent.StepLogin {
		return nil, agent.ErrPassedOver
	}
	env, err := s.env(ctx)
	if err != nil {
		return nil, &agent.Error{Kind: agent.Misconfigured, Step: step, Detail: err.Error(), Unsent: true, Err: err}
	}
	digest := sha256.Sum256(fmt.Appendf(nil, "%q %q", s.spec.Command, env))
	return &agent.Attempt{
		Credential: agent.Credential{Origin: "exec", Principal: s.principal, Digest: digest},
		Send:       func(ctx context.Context) (*agent.Grant, error) { return s.run(ctx, env) },
	}, nil
}

func (s *Source) env(ctx context.Context) ([]string, error) {
	var out []string
	for name, ref := range s.spec.Env {
		if ref.Handle() == (secret.Handle{}) {
			out = append(out, name+"=")
			continue
		}
		v, err := (*secret.Resolver)(nil).Resolve(ctx, ref)
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", name, err)
		}
		out = append(out, name+"="+v.Reveal())
	}
	slices.Sort(out)
	return out, nil
}

func (s *Source) run(ctx context.Context, env []string) (*agent.Grant, error) {
	sent := s.clock()
	b, err := child.Run(ctx, child.Command{Argv: s.spec.Command, Env: env, Timeout: s.timeout})
	if err != nil {
		return nil, s.failure(err)
	}
	t, err := output.Parse(s.spec.Format, b)
	if err != nil {
		return nil, &agent.Error{Kind: agent.Misconfigured, Step: agent.StepLogin, Err: err,
			Detail: fmt.Sprintf("read what %s printed: %v", s.name(), err), Hint: "look at `format`: " + strings.Join(output.Formats(), ", ")}
	}
	g, bad := t.Grant(sent, sent.Wall, s.spec.Lifetime)
	if bad != nil {
		bad.Step = agent.StepLogin
		return nil, bad
	}
	return g, nil
}

func (s *Source) name() string { return fmt.Sprintf("%q", s.spec.Command[0]) }

// failure says what the end of a program means; what it printed is not shown.
func (s *Source) failure(err error) error {
	e := &agent.Error{Kind: agent.Transient, Step: agent.StepLogin, Err: err, Detail: "run " + s.name() + ": " + "it gave no token"}
	if exit, ok := errors.AsType[*osexec.ExitError](err); ok {
		return s.ended(e, exit.ExitCode())
	}
	for _, known := range []error{child.ErrTimeout, child.ErrHeld, child.ErrTooLong, osexec.ErrNotFound} {
		if errors.Is(err, known) {
			e.Detail = fmt.Sprintf("run %s: %v", s.name(), known)
		}
	}
	if errors.Is(err, child.ErrTooLong) {
		e.Kind = agent.Misconfigured
	}
	if _, ok := errors.AsType[*osexec.Error](err); ok || isPath(err) {
		e.Kind, e.Unsent = agent.Misconfigured, true
		e.Detail = fmt.Sprintf("run %s: it cannot be started", s.name())
		e.Hint = "give the program's whole path; the agent's user must be allowed to run it"
	}
	return e
}

func isPath(err error) bool {
	_, ok := errors.AsType[*fs.PathError](err)
	return ok
}
