//go:build unix

package atomicfile

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Put makes path hold data with the given access and returns when that is
// durable. What is already so is not written again. On error the old content is
// whole; only where the directory's fsync failed are readers shown the new one,
// and a later Put makes up for it.
func (w *Writer) Put(path string, data []byte, a Access) (Outcome, error) {
	out, _, err := w.PutStamped(path, data, a, Stamp{})
	return out, err
}

// PutStamped is Put that also tells the Stamp of a file that it wrote. Handed back
// with other data, the Stamp spares reading what it would replace.
func (w *Writer) PutStamped(path string, data []byte, a Access, was Stamp) (out Outcome, stamp Stamp, err error) {
	out, err = w.put(path, data, a, was, &stamp)
	return out, stamp, err
}

// StampOf is the Stamp of the file at path, zero where it cannot be told.
func StampOf(path string) Stamp {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return Stamp{}
	}
	return stampOf(&st)
}

func stampOf(st *unix.Stat_t) Stamp {
	sec, nsec := st.Ctim.Unix()
	return Stamp{uint64(st.Dev), st.Ino, st.Size, sec, nsec}
}

func (w *Writer) put(path string, data []byte, a Access, was Stamp, stamp *Stamp) (Outcome, error) {
	who, err := a.resolve(path)
	if err != nil {
		return Unchanged, err
	}
	d, err := w.open(filepath.Dir(path))
	if err != nil {
		return Unchanged, err
	}
	defer d.close()
	d.slots <- struct{}{}
	defer func() { <-d.slots }()

	name := filepath.Base(path)
	var st unix.Stat_t
	if was != (Stamp{}) && unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && stampOf(&st) == was {
		return Replaced, d.replace(name, data, a, who, stamp)
	}
	out, err := d.compare(name, data, who)
	if err != nil {
		return Unchanged, err
	}
	switch out {
	case Unchanged:
		if d.group.dirty() {
			err = d.fail("fsync directory of", name, d.fsync(), a)
		}
		return out, err
	case Repaired:
		err = d.repair(name, who)
		if err == nil || !errors.Is(err, unix.EPERM) {
			return out, d.fail("set the owner and mode of", name, err, a)
		}
		out = Replaced // someone else owns the file: a new one will be ours
	}
	return out, d.replace(name, data, a, who, stamp)
}

// Compare says what Put would do, without doing it.
func (w *Writer) Compare(path string, data []byte, a Access) (Outcome, error) {
	who, err := a.resolve(path)
	if err != nil {
		return Unchanged, err
	}
	d, err := w.open(filepath.Dir(path))
	if err != nil {
		return Unchanged, err
	}
	defer d.close()
	return d.compare(filepath.Base(path), data, who)
}

// Probe reports whether Put could write path now: it goes as far as a temporary
// file with the asked owner and mode, and takes that away again.
func (w *Writer) Probe(path string, a Access) error {
	who, err := a.resolve(path)
	if err != nil {
		return err
	}
	d, err := w.open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.close()
	name := filepath.Base(path)
	if _, err := d.compare(name, nil, who); err != nil {
		return err
	}
	t, err := d.create()
	if err != nil {
		return d.fail("create a file beside", name, err, a)
	}
	defer unix.Close(t.fd)
	defer unix.Unlinkat(d.fd(), t.name, 0)
	return d.fail("set the owner and mode of", name, d.own(t.fd, &t.st, who), a)
}

// Remove deletes path if ours says so of its content, and reports whether it
// did. A file that is not there is no error.
func (w *Writer) Remove(path string, ours func(content []byte) bool) (bool, error) {
	d, err := w.open(filepath.Dir(path))
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer d.close()
	name := filepath.Base(path)
	content, st, err := d.read(name)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, d.fail("read", name, err, Access{})
	}
	var now unix.Stat_t
	if !ours(content) || unix.Fstatat(d.fd(), name, &now, unix.AT_SYMLINK_NOFOLLOW) != nil || now.Ino != st.Ino {
		return false, nil
	}
	if err := unix.Unlinkat(d.fd(), name, 0); err != nil {
		return false, d.fail("remove", name, err, Access{})
	}
	d.group.changed.Add(1)
	return true, d.fail("fsync directory of", name, d.fsync(), Access{})
}

// compare judges the target as it is. A target that cannot be read differs.
func (d *dir) compare(name string, data []byte, who owner) (Outcome, error) {
	content, st, err := d.read(name)
	switch {
	case err == nil && bytes.Equal(content, data):
		if who.matches(st) {
			return Unchanged, nil
		}
		return Repaired, nil
	case err == nil:
		return Replaced, nil
	case errors.Is(err, unix.ENOENT):
		return Created, nil
	case errors.Is(err, unix.EACCES):
		return Replaced, nil
	}
	return Unchanged, d.fail("look at", name, err, Access{})
}

// read returns a plain file's content, nil where it is too large to be ours.
// O_NONBLOCK keeps a FIFO that was put there from blocking the open.
func (d *dir) read(name string) ([]byte, *unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, nil, err
	}
	if err := plain(&st); err != nil {
		return nil, nil, err
	}
	fd, err := openat(d.fd(), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, nil, err
	}
	if err := plain(&st); err != nil {
		return nil, nil, err
	}
	if st.Size > maxSize {
		return nil, &st, nil
	}
	content, err := readAll(fd, int(st.Size))
	return content, &st, err
}

// readAll reads a file that was size bytes long; one read in the common case.
func readAll(fd, size int) ([]byte, error) {
	buf := make([]byte, size+1) // one more, to see that it has grown
	n := 0
	for n < len(buf) {
		got, err := unix.Read(fd, buf[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if got == 0 || n+got == size {
			return buf[:n+got], nil
		}
		n += got
	}
	return nil, nil // it grows while we read: not ours
}

// repair sets owner and mode of the file in place.
func (d *dir) repair(name string, who owner) error {
	fd, err := openat(d.fd(), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if err := plain(&st); err != nil {
		return err
	}
	if err := d.own(fd, &st, who); err != nil {
		return err
	}
	return fsync(fd)
}

// own sets owner, then mode: chown(2) may clear mode bits. A file that has both
// already, as st says, is left alone.
func (d *dir) own(fd int, st *unix.Stat_t, who owner) error {
	if err := d.w.at("chown"); err != nil {
		return err
	}
	if who.matches(st) {
		return d.w.at("chmod")
	}
	if who.uid >= 0 || who.gid >= 0 {
		if err := unix.Fchown(fd, who.uid, who.gid); err != nil {
			return &chownError{err}
		}
	}
	if err := d.w.at("chmod"); err != nil {
		return err
	}
	return unix.Fchmod(fd, uint32(who.mode))
}

// replace writes a new file and renames it over name.
func (d *dir) replace(name string, data []byte, a Access, who owner, stamp *Stamp) error {
	t, err := d.create()
	if err != nil {
		return d.fail("create a file beside", name, err, a)
	}
	defer unix.Close(t.fd) // holds the lock that keeps sweepers away until the rename
	if err = d.fill(&t, data, who); err == nil {
		if err = d.w.at("rename"); err == nil {
			err = unix.Renameat(d.fd(), t.name, d.fd(), name)
		}
	}
	if err != nil {
		_ = unix.Unlinkat(d.fd(), t.name, 0)
		return d.fail("write", name, err, a)
	}
	if unix.Fstat(t.fd, &t.st) == nil { // of our file, whoever has replaced it meanwhile
		*stamp = stampOf(&t.st)
	}
	d.group.changed.Add(1)
	return d.fail("fsync directory of", name, d.fsync(), a)
}

// fill gives the new file its access before its content.
func (d *dir) fill(t *temp, data []byte, who owner) error {
	if err := d.own(t.fd, &t.st, who); err != nil {
		return err
	}
	if err := d.w.at("write"); err != nil {
		return err
	}
	if err := writeAll(t.fd, data); err != nil {
		return err
	}
	if err := d.w.at("fsync"); err != nil || d.memory {
		return err
	}
	return d.files.flush(t.fd)
}

func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// temp is a new file before its rename.
type temp struct {
	fd   int
	name string
	st   unix.Stat_t
}

// create makes a new temporary file, locked so that no sweeper takes it for one
// that a crash left.
func (d *dir) create() (t temp, err error) {
	if err := d.w.at("create"); err != nil {
		return t, err
	}
	for {
		t.name = tempPrefix + rand.Text() + tempSuffix
		t.fd, err = openat(d.fd(), t.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return t, err
		}
		err = unix.Flock(t.fd, unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EWOULDBLOCK && unix.Fstat(t.fd, &t.st) == nil && t.st.Nlink == 1 {
			return t, nil // a filesystem without locks is used without
		}
		_ = unix.Close(t.fd) // a sweeper was between our open and our lock; it removes the file
	}
}

// sweepTemps removes the temporary files that no live writer holds. What cannot
// be swept harms nobody but the disk, so there is no error.
func (d *dir) sweepTemps() {
	fd, err := openat(d.fd(), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	list := os.NewFile(uintptr(fd), d.path)
	defer list.Close()
	names, err := list.Readdirnames(-1)
	if err != nil {
		return
	}
	for _, name := range names {
		if isTemp(name) {
			d.sweepOne(name)
		}
	}
}

func (d *dir) sweepOne(name string) {
	fd, err := openat(d.fd(), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || plain(&st) != nil {
		return
	}
	if me := os.Geteuid(); me != 0 && st.Uid != uint32(me) { // root may have given the file away already
		return
	}
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != unix.EWOULDBLOCK {
		_ = unix.Unlinkat(d.fd(), name, 0)
	}
}
