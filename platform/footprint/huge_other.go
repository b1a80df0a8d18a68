//go:build !linux

package footprint

import "errors"

// Collapse fails with [errors.ErrUnsupported]: this system does it by itself, or
// not at all.
func Collapse() error { return errors.ErrUnsupported }
