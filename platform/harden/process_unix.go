//go:build unix && !linux

package harden

// Process sees to it that this process leaves no core dump and that what it makes
// is nobody else's.
func Process() error { return limit() }
