//go:build linux || darwin || windows

package clock

const bootIDIsKnown = true
