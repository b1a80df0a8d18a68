// Package file is the source of a token that something else writes.
package file

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/output"
	"renewd/agent/source/spec"
)

const maxSize = 1 << 20

// Spec is what stands beside `type: file`.
type Spec struct {
	Path     secret.Path    `yaml:"path"`
	Format   string         `yaml:"format"`   // raw (default), json, exec_credential, aws
	Lifetime *spec.Lifetime `yaml:"lifetime"` // counted from the file's last change
	Present  *spec.Present  `yaml:"present"`
}

// Source is one token's source.
type Source struct {
	spec   *Spec
	clock  agent.Clock
	traits agent.Traits
}

// New checks s and makes a Source of it, nil after a problem.
func New(s *Spec, clock agent.Clock) (*Source, []spec.Problem) {
	var p spec.Problems
	if s.Path == "" {
		p.Add("path", "a path is needed")
	}
	if s.Format != "" && !slices.Contains(output.Formats(), s.Format) {
		p.Add("format", "unknown format %q", s.Format).Hint = spec.Meant(s.Format, output.Formats())
	}
	s.Lifetime.Check("lifetime", &p)
	present, err := s.Present.Plain()
	if err != nil {
		p.Add("present.value", "%v", err)
	}
	if p.Fatal() {
		return nil, p
	}
	src := &Source{spec: s, clock: clock, traits: agent.Traits{Type: "file", Presentation: present}}
	if s.Lifetime != nil {
		src.traits.Life, _ = s.Lifetime.Max.Parse()
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "file %q %q", s.Path, s.Format))
	src.traits.Fingerprint = base64.RawURLEncoding.EncodeToString(sum[:16])
	return src, p
}

// Traits implements agent.Source.
func (s *Source) Traits() *agent.Traits { return &s.traits }

// SourceFile is the file whose change brings another token.
func (s *Source) SourceFile() string { return string(s.spec.Path) }

// Prepare implements agent.Source. A file only ever "logs in": it is read.
func (s *Source) Prepare(_ context.Context, step agent.Step, _ agent.Session) (*agent.Attempt, error) {
	if step != agent.StepLogin {
		return nil, agent.ErrPassedOver
	}
	return &agent.Attempt{Send: s.read}, nil
}

func (s *Source) read(context.Context) (*agent.Grant, error) {
	fail := func(kind agent.Kind, err error, hint string) (*agent.Grant, error) {
		return nil, &agent.Error{Kind: kind, Step: agent.StepLogin, Unsent: true, Err: err, Hint: hint,
			Detail: fmt.Sprintf("read token file %q: %v", s.spec.Path, err)}
	}
	sent := s.clock()
	b, made, err := load(string(s.spec.Path))
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fail(agent.Misconfigured, fs.ErrPermission, "the agent's user must be allowed to read it")
	case errors.Is(err, errOdd), errors.Is(err, errLong):
		return fail(agent.Misconfigured, err, "")
	case errors.Is(err, fs.ErrNotExist):
		return fail(agent.Transient, fs.ErrNotExist, "it is read as soon as it is there")
	case err != nil:
		return fail(agent.Transient, errors.New("it cannot be read"), "")
	}
	t, err := output.Parse(s.spec.Format, b)
	if errors.Is(err, output.ErrNone) {
		return fail(agent.Transient, err, "it is read again as soon as it changes")
	}
	if err != nil {
		return fail(agent.Misconfigured, err, "look at `format`")
	}
	g, bad := t.Grant(sent, made, s.spec.Lifetime)
	if bad != nil {
		bad.Step, bad.Unsent = agent.StepLogin, true
		return nil, bad
	}
	return g, nil
}

var (
	errOdd  = errors.New("it is not a regular file")
	errLong = fmt.Errorf("it is larger than %d bytes", maxSize)
)

func load(path string) (b []byte, made time.Time, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, made, err
	}
	if !info.Mode().IsRegular() {
		return nil, made, errOdd
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, made, err
	}
	defer f.Close()
	if b, err = io.ReadAll(io.LimitReader(f, maxSize+1)); err != nil {
		return nil, made, err
	}
	if len(b) > maxSize {
		return nil, made, errLong
	}
	return b, info.ModTime(), nil
}
