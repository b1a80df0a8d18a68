//go:build unix && !linux

package atomicfile

// flusher makes the contents of new files durable.
type flusher struct{}

// flush returns when fd's content and size are durable.
func (*flusher) flush(fd int) error { return fsync(fd) }

// inMemory cannot be told here.
func inMemory(int) bool { return false }
