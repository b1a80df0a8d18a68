// Package exec is the source that runs a command which prints the token.
package exec

import "renewd/agent/source/spec"

// Spec is what may stand beside `type: exec`.
type Spec struct {
	Command []string          `yaml:"command"` // the program first; no shell
	Format  string            `yaml:"format"`  // raw, json, exec_credential, aws
	Timeout spec.Duration     `yaml:"timeout"`
	Env     map[string]string `yaml:"env"`
}
