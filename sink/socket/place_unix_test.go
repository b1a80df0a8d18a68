//go:build unix

package socket

import (
	"context"
	"net"
	"path/filepath"
	"testing"
)

// place is a socket that nobody else has.
func place(dir string) string { return filepath.Join(dir, "s") }

func dialPlace(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}

// halfClose ends what is sent, so that the server sees the end of the requests.
func halfClose(_ testing.TB, c net.Conn) error { return c.(*net.UnixConn).CloseWrite() }
