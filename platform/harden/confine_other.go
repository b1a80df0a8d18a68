//go:build !linux

package harden

import "errors"

// Confine cannot be had here.
func Confine(Dirs) (*Confinement, error) {
	return &Confinement{}, errors.New("only Linux has Landlock")
}

// Lacks has nothing to say.
func (c *Confinement) Lacks(Dirs) []string { return nil }

// String says how the process is confined.
func (c *Confinement) String() string { return "not confined" }
