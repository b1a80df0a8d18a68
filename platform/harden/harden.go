// Package harden keeps what this process holds from those who look at it from
// outside.
package harden
