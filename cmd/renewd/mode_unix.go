//go:build !windows

package main

import (
	"io/fs"

	"renewd/agent/config"
)

func modeAllowed() error { return nil }

func fileMode(m config.Mode) fs.FileMode { return fs.FileMode(m) }
