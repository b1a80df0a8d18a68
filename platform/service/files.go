//go:build linux || darwin

package service

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// put writes a file whole, unless it is there already with these bytes.
func (s *Service) put(path string, data []byte) (changed bool, err error) {
	old, err := os.ReadFile(path)
	if err == nil && string(old) == string(data) {
		return false, nil
	}
	word := "wrote"
	if err == nil {
		word = "replaced"
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".renewd-*")
	if err != nil {
		return false, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return false, err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return false, err
	}
	s.Say("%s %s", word, path)
	return true, nil
}

// drop removes a file that may not be there.
func (s *Service) drop(path string) (changed bool, err error) {
	err = os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		s.Say("removed %s", path)
	}
	return err == nil, err
}
