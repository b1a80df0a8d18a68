package main

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"time"

	"renewd/agent/config"
	"renewd/platform/account"
	"renewd/platform/ipc"
	"renewd/sink/socket"
)

// listen opens the socket. A user's own agent lets nobody else in.
func (d *daemon) listen(c *config.Config) (*ipc.Listener, error) {
	o := ipc.Options{Path: d.paths.Socket, Mode: 0o600, Group: c.Socket.Group}
	if d.system() {
		o.Mode = 0o666
		if o.Group == "" && groupExists("renewd") && os.Geteuid() == 0 {
			o.Group = "renewd"
		}
	}
	if c.Socket.Mode != nil {
		o.Mode = fs.FileMode(*c.Socket.Mode)
	}
	l, err := d.openSocket(keptAPI, o)
	if err != nil {
		hint := ""
		if errors.Is(err, ipc.ErrInUse) {
			hint = "renewd status shows it; stop it first, or set socket: {path: …}"
		}
		return nil, fail(exitFailed, hint, "open the socket: %w", err)
	}
	for _, w := range l.Warnings {
		d.log.Warn(w)
	}
	return l, nil
}

// system says whether this is the machine's agent, as against a user's own.
func (d *daemon) system() bool {
	return account.Machine() || d.privilege != nil || d.notify.Managed() || firstDir("RUNTIME_DIRECTORY") != ""
}

// managers are the members of the socket's group.
func (d *daemon) managers(l *ipc.Listener) socket.Managers {
	m := socket.Managers{}
	if l.SID != "" {
		m.SIDs = []string{l.SID}
	}
	if l.GID > 0 && d.system() {
		m.GIDs = []uint32{uint32(l.GID)}
	}
	return m
}

// metrics opens the extra TCP listener, if there is to be one.
func (d *daemon) metrics(srv *socket.Server, c *config.Config) (stop func(), err error) {
	if c.Metrics.Listen == "" {
		return func() {}, nil
	}
	l, err := d.openTCP(keptMetrics, c.Metrics.Listen)
	if err != nil {
		return nil, fail(exitFailed, "choose another metrics: {listen: …}", "listen for metrics: %w", err)
	}
	ms := &http.Server{Handler: srv.MetricsHandler(), ReadHeaderTimeout: 5 * time.Second, WriteTimeout: time.Minute}
	go func() { _ = ms.Serve(l) }()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = ms.Shutdown(ctx)
		_ = ms.Close()
	}, nil
}
