//go:build unix && !linux

package main

import "testing"

type mounted = struct {
	want  string
	spoil func(dir string)
	mend  func(dir string)
}

func mounts(*testing.T) map[string]mounted { return nil }
