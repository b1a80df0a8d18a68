package main

import (
	"os"
	"os/user"
	"path/filepath"

	"renewd/packaging/systemd"
)

// asAdmin begins a command that an admin types.
const asAdmin = "sudo "

// definitions are the embedded files that this system's manager reads.
func definitions(user bool) (definition, accounts []byte) {
	if user {
		return systemd.UserUnit, nil
	}
	return systemd.Unit, systemd.Sysusers
}

func logHint(user bool) string {
	if user {
		return "journalctl --user -u renewd -n 20"
	}
	return "journalctl -u renewd -n 20"
}

func rootHint(verb string) string {
	return "sudo renewd service " + verb + "; or, for an agent of your own: renewd service " + verb + " --user"
}

// lingering says how a user's agent runs while the user is away.
func lingering(own bool) string {
	if !own {
		return ""
	}
	u, err := user.Current()
	if err != nil {
		return ""
	}
	if _, err := os.Stat(filepath.Join("/var/lib/systemd/linger", u.Username)); err == nil {
		return ""
	}
	return "loginctl enable-linger, if it is to run while you are logged out"
}
