package state

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Sealer wraps the state's key, so that a copy of the directory alone opens
// nothing.
type Sealer interface {
	// Name says what keeps the key, in one line that never changes.
	Name() string
	// Seal wraps a key. An error means that this way is not to be had.
	Seal(key []byte) ([]byte, error)
	// Open gives back what Seal was given. An error that is fs.ErrInvalid says
	// that no waiting helps.
	Open(sealed []byte) ([]byte, error)
}

// sealedMark begins a key file whose key is sealed; the sealer's name and the end
// of the line follow, and then what Seal gave. A file without it is the key.
const sealedMark = "renewd state key, sealed by "

// key gives the sealing key: the one that was handed in, else that of the key
// file, which a fresh state makes.
func (db *DB) key(o Options, fresh bool) ([]byte, error) {
	if !o.Key.IsZero() {
		db.sealedBy = "the key given in the config"
		k := sha256.Sum256([]byte("renewd state key\x00" + o.Key.Reveal()))
		return k[:], nil
	}
	path := filepath.Join(o.Dir, keyName)
	data, err := os.ReadFile(path)
	switch {
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("read the state's key: %w", err)
	case err != nil && !fresh:
		return nil, &BrokenError{filepath.Join(o.Dir, dbName), "its key file " + path + " is missing"}
	case err != nil || fresh && len(data) == 0:
		data = make([]byte, keySize)
		_, _ = rand.Read(data)
		return data, db.keep(data, path, o.Sealers)
	case len(data) == keySize && len(o.Sealers) > 0: // made before there was a way to seal
		return data, db.keep(data, path, o.Sealers)
	}
	k, by, err := openKey(data, path, o.Sealers)
	if _, broken := errors.AsType[*BrokenError](err); broken && fresh {
		// It seals nothing here; what it once sealed may have been put aside.
		if err := os.Rename(path, path+suffix(time.Now())); err != nil {
			return nil, fmt.Errorf("put the state's key aside: %w", err)
		}
		return db.key(o, fresh)
	}
	db.sealedBy = by
	return k, err
}

// openKey reads a key file and says what keeps the key.
func openKey(data []byte, path string, sealers []Sealer) (key []byte, by string, err error) {
	rest, sealed := bytes.CutPrefix(data, []byte(sealedMark))
	if !sealed {
		if len(data) != keySize {
			return nil, "", &BrokenError{path, fmt.Sprintf("a key has %d bytes, this file %d", keySize, len(data))}
		}
		return data, unsealed(path), nil
	}
	name, rest, _ := bytes.Cut(rest, []byte("\n"))
	for _, s := range sealers {
		if s.Name() != string(name) {
			continue
		}
		key, err := s.Open(rest)
		switch {
		case errors.Is(err, fs.ErrInvalid):
			return nil, "", &BrokenError{path, err.Error()}
		case err != nil:
			return nil, "", fmt.Errorf("read the state's key: %w", err)
		case len(key) != keySize:
			return nil, "", &BrokenError{path, fmt.Sprintf("a key has %d bytes, the sealed one %d", keySize, len(key))}
		}
		return key, sealedBy(s, path), nil
	}
	return nil, "", &BrokenError{path, fmt.Sprintf("its key is sealed by %q, which is not to be had here", name)}
}

// unsealed is a key whose file is the key: who copies the directory has both.
func unsealed(path string) string {
	return "the key file " + path + ", which a copy of the directory holds too"
}

func sealedBy(s Sealer, path string) string { return s.Name() + ", in " + path }

// keep writes a key, sealed in the first way that is to be had, and returns once
// it is durable: what it seals must not outlive it.
func (db *DB) keep(key []byte, path string, sealers []Sealer) error {
	data := key
	db.sealedBy = unsealed(path)
	for _, s := range sealers {
		sealed, err := s.Seal(key)
		if err != nil {
			db.sealedBy = unsealed(path) + " (" + err.Error() + ")"
			continue
		}
		data, db.sealedBy = append([]byte(sealedMark+s.Name()+"\n"), sealed...), sealedBy(s, path)
		break
	}
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write the state's key: %w", err)
	}
	_, werr := f.Write(data)
	err = errors.Join(werr, f.Sync(), f.Close())
	if err == nil {
		err = errors.Join(os.Rename(temp, path), syncDir(filepath.Dir(path)))
	}
	if err != nil {
		return fmt.Errorf("write the state's key: %w", err)
	}
	return nil
}

// suffix is what a file that was put aside ends with.
func suffix(now time.Time) string { return ".broken-" + now.UTC().Format("20060102T150405Z") }

// Reset puts the state aside, so that the next Open starts with an empty one. It
// refuses while an agent runs on it. It returns where the old one is now, or ""
// where there was none or keep is false.
func Reset(dir string, keep bool) (string, error) {
	path := filepath.Join(dir, dbName)
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	release, err := lock(path)
	if err != nil {
		return "", &HeldError{dir, readPID(dir)}
	}
	defer release()
	if !keep {
		return "", errors.Join(os.Remove(path), syncDir(dir))
	}
	aside := path + suffix(time.Now())
	if err := os.Rename(path, aside); err != nil {
		return "", fmt.Errorf("put the state aside: %w", err)
	}
	// The key stays: the new state is sealed with it too, and the old one can
	// still be opened. A key of the wrong size goes aside with what it sealed.
	key := filepath.Join(dir, keyName)
	if data, err := os.ReadFile(key); err == nil && len(data) != keySize && !bytes.HasPrefix(data, []byte(sealedMark)) {
		if err := os.Rename(key, key+filepath.Ext(aside)); err != nil {
			return "", fmt.Errorf("put the state's key aside: %w", err)
		}
	}
	return aside, syncDir(dir)
}
