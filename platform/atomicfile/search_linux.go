package atomicfile

import "golang.org/x/sys/unix"

// searchOnly opens a directory that may be passed through but not read.
const searchOnly = unix.O_PATH
