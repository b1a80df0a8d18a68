//go:build !windows

package main

import (
	"errors"

	"renewd/agent/config"
	"renewd/sink/socket"
)

// unixPathAllowed refuses a second Unix socket that would know less than the first.
func unixPathAllowed() error {
	return errors.New("this is for Windows alone: here the socket at path is a Unix socket, and it knows who asks")
}

// serveUnknown has nothing to serve where no config may ask for it.
func (d *daemon) serveUnknown(*socket.Server, *config.Config) error { return nil }
