package main

import (
	"os"
	"path/filepath"

	"renewd/agent"
	"renewd/platform/ipc"
	"renewd/sink/credential"
)

// credentials serves other units' LoadCredential=, where systemd runs. The agent
// does without where that cannot be.
func (d *daemon) credentials() (stop func()) {
	nothing := func() {}
	if fi, err := os.Lstat("/run/systemd/system"); err != nil || !fi.IsDir() { // sd_booted(3)
		return nothing
	}
	l, err := d.openSocket(keptCredentials, ipc.Options{Path: filepath.Join(d.paths.Runtime, "credentials.sock"), Mode: 0o600})
	if err != nil {
		d.log.Warn("other units cannot load credentials from here", agent.KeyError, err)
		return nothing
	}
	srv, err := credential.New(credential.Options{Agent: d.agent, Log: d.log, Machine: d.system()})
	if err != nil {
		_ = l.Close()
		d.log.Warn("other units cannot load credentials from here", agent.KeyError, err)
		return nothing
	}
	go func() { _ = srv.Serve(l) }()
	return func() {
		_ = l.Close()
		srv.Close()
	}
}
