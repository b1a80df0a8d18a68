package main

import "renewd/packaging/windows"

// asAdmin begins a command that an admin types.
const asAdmin = ""

// definitions are the embedded files that this system's manager reads.
func definitions(bool) (definition, accounts []byte) { return windows.Service, nil }

func logHint(bool) string { return "sc.exe query renewd" }

func rootHint(verb string) string {
	return "in a PowerShell started as administrator: renewd service " + verb
}

func lingering(bool) string { return "" }
