// Package jwt is the source whose token is a JWT signed here: no server is asked.
package jwt

import (
	"renewd/agent/secret"
	"renewd/agent/source/spec"
)

// Spec is what may stand beside `type: jwt`.
type Spec struct {
	Algorithm string               `yaml:"algorithm"` // HS, RS, PS, ES with 256, 384, 512; EdDSA
	Key       secret.Ref           `yaml:"key"`       // HS: the bytes; else a private key in PEM
	KeyID     string               `yaml:"key_id"`
	Lifetime  spec.Duration        `yaml:"lifetime"`
	Backdate  spec.Duration        `yaml:"backdate"` // iat lies so much before now; exp = iat + lifetime
	Headers   map[string]spec.Tree `yaml:"headers"`  // a null removes one
	Claims    map[string]spec.Tree `yaml:"claims"`   // over iat, exp and jti; a null removes one
}
