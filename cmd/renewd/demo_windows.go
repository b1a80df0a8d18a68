package main

import "renewd/platform/paths"

// showFile and showSocket are commands that read a demo's token.
func showFile(path string) string { return `type "` + path + `"` }

// showSocket: nothing that comes with Windows reads a pipe.
func showSocket(paths.Set) string { return "" }
