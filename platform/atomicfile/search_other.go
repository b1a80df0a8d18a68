//go:build unix && !linux && !darwin

package atomicfile

import "golang.org/x/sys/unix"

// searchOnly asks for more than is needed where no portable flag asks for less.
const searchOnly = unix.O_RDONLY
