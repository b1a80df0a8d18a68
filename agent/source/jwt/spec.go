// Package jwt is the source whose token is a JWT signed here.
package jwt

import (
	"renewd/agent/secret"
	"renewd/agent/source/spec"
)

// Spec is what may stand beside `type: jwt`.
type Spec struct {
	Algorithm string               `yaml:"algorithm"`
	Key       secret.Ref           `yaml:"key"`
	KeyID     string               `yaml:"key_id"`
	Lifetime  spec.Duration        `yaml:"lifetime"`
	Backdate  spec.Duration        `yaml:"backdate"`
	Headers   map[string]spec.Tree `yaml:"headers"`
	Claims    map[string]spec.Tree `yaml:"claims"`
}
