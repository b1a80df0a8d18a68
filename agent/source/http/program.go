package http

import (
	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/spec"
	"renewd/agent/source/wire"
)

// Env is what a token's Source gets from the process around it.
type Env struct {
	// Now reads the clock; nil: the wall clock for both readings.
	Now agent.Clock
	// Secrets reads secrets; nil: a Resolver without memory.
	Secrets *secret.Resolver
	// Transports are shared by all sources; required.
	Transports *wire.Transports
	// Defaults are the config's `defaults`: its tls, proxy and no_proxy.
	TLS     *wire.TLS
	Proxy   string
	NoProxy []string
}

// Compile checks a Spec and makes a Program of it. name is the source's type
// ("http", or the preset's name). All problems are told at once; the Program is
// nil if one of them is more than a warning.
func Compile(name string, s *Spec) (*Program, []Problem) { return nil, nil }

// Program is a compiled Spec; it is immutable and shared.
type Program struct {
	name string
	spec *Spec
}

// Bind makes one token's Source of a Program: values are its inputs, over the
// keys set beside them (nil: none). Paths in problems are relative to the
// mapping that `type` stands in.
func (p *Program) Bind(values map[string]spec.Value, over *Overrides, env *Env) (*Source, []Problem) {
	return nil, nil
}

// Inputs are the declared inputs by name, for `renewd presets NAME`.
func (p *Program) Inputs() map[string]Input { return p.spec.Inputs }

// Source is one token's source.
type Source struct {
	*Program
}
