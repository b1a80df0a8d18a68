// Package launchd holds what renewd gives to macOS's launchd.
package launchd

import _ "embed"

// Daemon is the service of the machine.
//
//go:embed renewd.plist
var Daemon []byte

// Agent is the service of one user.
//
//go:embed renewd-agent.plist
var Agent []byte
