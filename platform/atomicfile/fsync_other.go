//go:build unix && !linux && !darwin

package atomicfile

import "golang.org/x/sys/unix"

// fsync makes a file durable.
func fsync(fd int) error {
	for {
		if err := unix.Fsync(fd); err != unix.EINTR {
			return err
		}
	}
}
