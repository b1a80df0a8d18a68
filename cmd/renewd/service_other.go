//go:build !linux && !darwin && !windows

package main

func definitions(bool) (definition, accounts []byte) { return nil, nil }
func logHint(bool) string                            { return "" }
func rootHint(string) string                         { return "" }
func lingering(bool) string                          { return "" }
