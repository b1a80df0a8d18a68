// Package exec is the source that runs a command which prints the token.
package exec

import "renewd/agent/source/spec"

// Spec is what may stand beside `type: exec`.
type Spec struct {
	Command  []string          `yaml:"command"` // the program first; no shell
	Format   string            `yaml:"format"`  // raw (default), json, exec_credential, aws
	Timeout  spec.Duration     `yaml:"timeout"` // at most 30 s
	Env      map[string]string `yaml:"env"`     // beside PATH, HOME and LANG
	Lifetime Lifetime          `yaml:"lifetime"`
}

// Lifetime bounds what is known of the token's life.
type Lifetime struct {
	Max     spec.Duration `yaml:"max"`
	Default spec.Duration `yaml:"default"` // only where nothing else is known
}
