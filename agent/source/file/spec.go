// Package file is the source that reads a token which something else writes.
package file

import "renewd/agent/secret"

// Spec is what may stand beside `type: file`.
type Spec struct {
	Path   secret.Path `yaml:"path"`
	Format string      `yaml:"format"` // raw, json
}
