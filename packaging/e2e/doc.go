// Package e2e proves the packages on a real service manager: systemd as PID 1 of a
// machine of its own, in namespaces of this one, and Windows' as Wine has it. It
// needs root, Debian's package sources and Go, and nothing that is installed for
// it stays running.
package e2e
