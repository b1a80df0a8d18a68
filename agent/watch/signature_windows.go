package watch

import "os"

// signature differs whenever a file does; the zero one is of what is not there.
type signature struct {
	exists bool
	size   int64
	mtime  int64
	mode   os.FileMode
	link   bool // never told here
}

func look(path string) signature {
	fi, err := os.Stat(path)
	if err != nil {
		return signature{}
	}
	return signature{exists: true, size: fi.Size(), mtime: fi.ModTime().UnixNano(), mode: fi.Mode()}
}

// lookDir says which directory stands at path. Windows keeps a watched one from
// being exchanged, so that it is there is enough.
func lookDir(path string) signature {
	fi, err := os.Stat(path)
	if err != nil || !fi.IsDir() {
		return signature{}
	}
	return signature{exists: true}
}
