//go:build unix && !linux

package atomicfile

import "os"

// flusher makes the contents of new files durable.
type flusher struct{}

// flush returns when f's content and size are durable.
func (*flusher) flush(f *os.File) error { return f.Sync() }
