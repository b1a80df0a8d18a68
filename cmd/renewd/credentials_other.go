//go:build !linux

package main

// credentials has nothing to serve: only systemd asks for any.
func (d *daemon) credentials() (stop func()) { return func() {} }
