//go:build !linux

package service

import (
	"errors"
	"os"
	"syscall"
)

func stores() bool { return false }

func inherited() map[string]*os.File { return nil }

// Store has the manager keep a listening socket; only systemd does.
func (n *Notifier) Store(string, syscall.Conn) error { return errors.ErrUnsupported }

// Stored gives what an earlier process stored: nothing.
func (n *Notifier) Stored(string) (rest string, f *os.File) { return "", nil }

// Unstore has the manager drop what is stored under a name.
func (n *Notifier) Unstore(string) {}

// UnstoreRest has the manager drop what was not asked for.
func (n *Notifier) UnstoreRest() {}

// UnstoreAll has the manager drop all that is stored.
func (n *Notifier) UnstoreAll() {}
