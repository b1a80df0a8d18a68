//go:build unix

package watch

import (
	"os"
	"syscall"
)

// signature differs whenever a file does; the zero one is of what is not there.
type signature struct {
	dev, ino         uint64
	size             int64
	mtime            int64
	mode, uid, gid   uint32
	nlink            uint64
	link             bool // what is at the path is a symlink
	linkDev, linkIno uint64
}

// look follows symlinks and books the link too: replaced by one to an equal file,
// it has changed.
func look(path string) signature {
	fi, err := os.Lstat(path)
	if err != nil {
		return signature{}
	}
	st := fi.Sys().(*syscall.Stat_t)
	s := signature{link: fi.Mode()&os.ModeSymlink != 0, linkDev: uint64(st.Dev), linkIno: uint64(st.Ino)}
	if s.link {
		if fi, err = os.Stat(path); err != nil {
			return s
		}
		st = fi.Sys().(*syscall.Stat_t)
	}
	s.dev, s.ino, s.size, s.mtime = uint64(st.Dev), uint64(st.Ino), fi.Size(), fi.ModTime().UnixNano()
	s.mode, s.uid, s.gid, s.nlink = uint32(fi.Mode()), st.Uid, st.Gid, uint64(st.Nlink)
	return s
}

// lookDir says which directory stands at path.
func lookDir(path string) signature {
	fi, err := os.Stat(path)
	if err != nil || !fi.IsDir() {
		return signature{}
	}
	st := fi.Sys().(*syscall.Stat_t)
	return signature{dev: uint64(st.Dev), ino: uint64(st.Ino)}
}
