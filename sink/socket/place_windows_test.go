package socket

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"renewd/platform/ipc"
)

// place is a pipe that nobody else has.
func place(dir string) string { return `\\.\pipe\renewd-test-` + filepath.Base(dir) }

func dialPlace(ctx context.Context, path string) (net.Conn, error) { return ipc.Dial(ctx, path) }

// halfClose: a pipe of bytes has no half that could be closed alone.
func halfClose(t testing.TB, _ net.Conn) error {
	t.Skip("a pipe cannot be closed by halves")
	return nil
}
