package state

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// key gives the sealing key: the one that was handed in, else the key file,
// which a fresh state makes.
func (db *DB) key(o Options, fresh bool) ([]byte, error) {
	if !o.Key.IsZero() {
		db.sealedBy = "the key given in the config"
		k := sha256.Sum256([]byte("renewd state key\x00" + o.Key.Reveal()))
		return k[:], nil
	}
	path := filepath.Join(o.Dir, keyName)
	db.sealedBy = "the key file " + path
	k, err := os.ReadFile(path)
	switch {
	case err == nil && len(k) == keySize:
		return k, nil
	case err == nil && !(fresh && len(k) == 0):
		return nil, &BrokenError{path, fmt.Sprintf("a key has %d bytes, this file %d", keySize, len(k))}
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("read the state's key: %w", err)
	case !fresh:
		return nil, &BrokenError{filepath.Join(o.Dir, dbName), "its key file " + path + " is missing"}
	}
	return makeKey(path)
}

// makeKey writes a new key and returns once it is durable: what it seals must
// not outlive it.
func makeKey(path string) ([]byte, error) {
	k := make([]byte, keySize)
	_, _ = rand.Read(k)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write the state's key: %w", err)
	}
	_, werr := f.Write(k)
	if err := errors.Join(werr, f.Sync(), f.Close(), syncDir(filepath.Dir(path))); err != nil {
		return nil, fmt.Errorf("write the state's key: %w", err)
	}
	return k, nil
}

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
	aside := path + ".broken-" + time.Now().UTC().Format("20060102T150405Z")
	if err := os.Rename(path, aside); err != nil {
		return "", fmt.Errorf("put the state aside: %w", err)
	}
	// The key stays: the new state is sealed with it too, and the old one can
	// still be opened. A key of the wrong size goes aside with what it sealed.
	key := filepath.Join(dir, keyName)
	if fi, err := os.Lstat(key); err == nil && fi.Size() != keySize {
		if err := os.Rename(key, key+filepath.Ext(aside)); err != nil {
			return "", fmt.Errorf("put the state's key aside: %w", err)
		}
	}
	return aside, syncDir(dir)
}
