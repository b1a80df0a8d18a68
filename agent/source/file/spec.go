// Package file is the source that reads a token which something else writes.
package file

import (
	"renewd/agent/secret"
	"renewd/agent/source/spec"
)

// Spec is what may stand beside `type: file`.
type Spec struct {
	Path     secret.Path `yaml:"path"`
	Format   string      `yaml:"format"` // raw (default), json
	Lifetime Lifetime    `yaml:"lifetime"`
}

// Lifetime bounds what is known of the token's life.
type Lifetime struct {
	Max     spec.Duration `yaml:"max"`     // from when it was read
	Default spec.Duration `yaml:"default"` // only where nothing else is known
}
