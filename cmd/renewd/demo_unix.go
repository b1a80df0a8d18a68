//go:build !windows

package main

import "renewd/platform/paths"

// showFile and showSocket are commands that read a demo's token.
func showFile(path string) string { return "cat " + path }

func showSocket(set paths.Set) string {
	return "curl --unix-socket " + set.Socket + " http://renewd/v1/tokens/demo"
}
