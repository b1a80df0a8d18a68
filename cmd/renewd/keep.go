package main

import (
	"net"
	"strings"
	"syscall"

	"renewd/agent"
	"renewd/platform/ipc"
)

// What the sockets are called while the manager keeps them from one process of the
// service to the next. What is in them waits meanwhile; nobody is refused.
const (
	keptAPI         = "api/"
	keptCredentials = "credentials/"
	keptMetrics     = "metrics/"
)

// openSocket opens a socket of the agent, or goes on with the one that the process
// before left.
func (d *daemon) openSocket(name string, o ipc.Options) (*ipc.Listener, error) {
	id, kept := d.notify.Stored(name)
	if kept != nil {
		defer kept.Close()
		o.Kept, o.KeptID = kept, id
	}
	l, err := ipc.Listen(o)
	if kept != nil && (err != nil || !l.Resumed) {
		d.notify.Unstore(name + id)
	}
	if err != nil {
		return nil, err
	}
	if l.Resumed || l.ID != "" && d.keep(name+l.ID, l.Listener) {
		l.Stay()
	}
	return l, nil
}

// openTCP is openSocket for an address of TCP.
func (d *daemon) openTCP(name, address string) (net.Listener, error) {
	name += strings.ReplaceAll(address, ":", "=") // no colons in names
	if l := d.resumeTCP(name); l != nil {
		return l, nil
	}
	l, err := net.Listen("tcp", address)
	if err == nil {
		d.keep(name, l)
	}
	return l, err
}

func (d *daemon) resumeTCP(name string) *net.TCPListener {
	more, kept := d.notify.Stored(name)
	if kept == nil {
		return nil
	}
	defer kept.Close()
	if more == "" {
		if l, err := net.FileListener(kept); err == nil {
			if t, ok := l.(*net.TCPListener); ok {
				return t
			}
			_ = l.Close()
		}
	}
	d.notify.Unstore(name + more)
	return nil
}

// keep has the manager keep a socket for the next process. Without that a restart
// refuses clients for a moment.
func (d *daemon) keep(name string, l net.Listener) bool {
	c, ok := l.(syscall.Conn)
	if !ok || !d.notify.Stores() {
		return false
	}
	if err := d.notify.Store(name, c); err != nil {
		d.log.Warn("the manager does not keep a socket over a restart", agent.KeyError, err)
		return false
	}
	return true
}
