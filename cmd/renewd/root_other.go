//go:build !linux

package main

import (
	"renewd/agent/config"
	"renewd/platform/paths"
)

// giveUpRoot has no user to become: packages that make one are Linux' alone.
func giveUpRoot(paths.Set, bool) (*privilege, error) { return nil, nil }

func becomeOwner(string) (*privilege, error) { return nil, nil }

func (d *daemon) beyondUser(*config.Config, *built) config.Problems { return nil }
