//go:build !linux && !darwin && !windows

package main

// asAdmin begins a command that an admin types.
const asAdmin = ""

func definitions(bool) (definition, accounts []byte) { return nil, nil }
func logHint(bool) string                            { return "" }
func rootHint(string) string                         { return "" }
func lingering(bool) string                          { return "" }
