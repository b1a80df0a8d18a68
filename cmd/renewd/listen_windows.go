package main

import (
	"path/filepath"

	"renewd/agent/config"
	"renewd/platform/ipc"
	"renewd/platform/paths"
	"renewd/sink/socket"
)

func unixPathAllowed() error { return nil }

// serveUnknown opens the Unix socket beside the pipe, where the config wants it. It
// is closed with srv.
func (d *daemon) serveUnknown(srv *socket.Server, c *config.Config) error {
	path := string(c.Socket.UnixPath)
	if path == "" {
		return nil
	}
	const hint = "choose a directory that is not there yet, or leave socket.unix_path out: the pipe serves without it"
	if err := paths.MakePrivate(filepath.Dir(path)); err != nil {
		return fail(exitFailed, hint, "%w", err)
	}
	l, err := ipc.ListenUnknown(path)
	if err != nil {
		return fail(exitFailed, hint, "open the Unix socket: %w", err)
	}
	go func() { _ = srv.ServeUnknown(l) }()
	d.log.Info("unix socket opened", "socket", path)
	return nil
}
