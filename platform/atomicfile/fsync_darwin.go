package atomicfile

import "golang.org/x/sys/unix"

// fsync makes a file durable. On macOS fsync(2) leaves the data in the drive's
// cache; F_FULLFSYNC does not, where the filesystem knows it.
func fsync(fd int) error {
	for {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_FULLFSYNC, 0)
		switch err {
		case unix.EINTR:
			continue
		case unix.ENOTSUP, unix.ENOTTY, unix.EINVAL:
			return unix.Fsync(fd)
		}
		return err
	}
}
