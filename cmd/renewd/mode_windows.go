package main

import (
	"errors"
	"io/fs"

	"renewd/agent/config"
)

// modeAllowed refuses Unix permission bits, which Windows would ignore.
func modeAllowed() error {
	return errors.New("mode means nothing on Windows: name accounts with owner and group instead")
}

func fileMode(config.Mode) fs.FileMode { return 0 }
