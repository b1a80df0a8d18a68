// Package systemd holds what renewd gives to systemd. Packages install these very
// files, and so does `renewd service install`: there is one of each.
package systemd

import _ "embed"

// Unit is the service of the machine.
//
//go:embed renewd.service
var Unit []byte

// UserUnit is the service of one user's own agent.
//
//go:embed renewd-user.service
var UserUnit []byte

// Sysusers makes the account that Unit names (sysusers.d(5)).
//
//go:embed sysusers.conf
var Sysusers []byte
