package main

import "renewd/packaging/launchd"

// asAdmin begins a command that an admin types.
const asAdmin = "sudo "

// definitions are the embedded files that this system's manager reads.
func definitions(user bool) (definition, accounts []byte) {
	if user {
		return launchd.Agent, nil
	}
	return launchd.Daemon, nil
}

func logHint(user bool) string {
	if user {
		return "launchctl print gui/$(id -u)/renewd"
	}
	return "/var/log/renewd.log, and: launchctl print system/renewd"
}

func rootHint(verb string) string {
	return "sudo renewd service " + verb + "; or, for an agent of your own: renewd service " + verb + " --user"
}

func lingering(bool) string { return "" }
