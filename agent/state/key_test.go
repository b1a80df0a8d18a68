package state

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// safe is a sealer that keeps keys under a number.
type safe struct {
	name string
	with byte
	gone error
}

func (s *safe) Name() string { return s.name }

func (s *safe) Seal(key []byte) ([]byte, error) { return s.turn(key), s.gone }

func (s *safe) Open(sealed []byte) ([]byte, error) {
	if s.gone != nil || sealed[0] != s.with {
		return nil, errors.Join(s.gone, fmt.Errorf("open: %w", fs.ErrInvalid))
	}
	return s.turn(sealed)[1:], nil
}

func (s *safe) turn(b []byte) []byte {
	out := []byte{s.with}
	if b[0] == s.with && len(b) == keySize+1 {
		out = nil
	}
	for _, c := range b {
		out = append(out, c^s.with)
	}
	return out
}

func reopen(t *testing.T, dir string, sealers ...Sealer) (says string, err error) {
	t.Helper()
	db, err := Open(Options{Dir: dir, Sealers: sealers})
	if err != nil {
		return "", err
	}
	defer func() { must(t, db.Close()) }()
	return db.SealedBy(), nil
}

// A key is sealed in the first way that is to be had, opened by the one that
// sealed it, and a key of before is sealed when there is a way.
func TestTheKeyIsSealed(t *testing.T) {
	dir, first, second := t.TempDir(), &safe{name: "safe one", with: 1}, &safe{name: "safe two", with: 2}
	path := filepath.Join(dir, keyName)
	if says, err := reopen(t, dir); err != nil || !strings.Contains(says, "which a copy of the directory holds too") {
		t.Fatalf("without: %q, %v", says, err)
	}
	plain, err := os.ReadFile(path)
	must(t, err)
	if says, err := reopen(t, dir, &safe{name: "none", gone: errors.New("not here")}, first); err != nil || !strings.HasPrefix(says, "safe one, in ") {
		t.Fatalf("with a way: %q, %v", says, err)
	}
	sealed, err := os.ReadFile(path)
	must(t, err)
	if bytes.Contains(sealed, plain) || !bytes.HasPrefix(sealed, []byte(sealedMark+"safe one\n")) {
		t.Fatalf("the file is %q", sealed)
	}
	if says, err := reopen(t, dir, second, first); err != nil || !strings.HasPrefix(says, "safe one, in ") {
		t.Fatalf("with a better way since: %q, %v", says, err)
	}
	ownAlone(t, path)
	for name, sealers := range map[string][]Sealer{"none": nil, "another": {second}, "another key": {&safe{name: "safe one", with: 3}}} {
		if _, err := reopen(t, dir, sealers...); !brokenAt(err, path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if now, _ := os.ReadFile(path); !bytes.Equal(now, sealed) {
		t.Error("a refused key file was changed")
	}
}

// A key that does not open is put aside with the state that it sealed, and not
// in the way of the next.
func TestAKeyThatDoesNotOpenIsPutAside(t *testing.T) {
	dir, mine := t.TempDir(), &safe{name: "safe", with: 1}
	if _, err := reopen(t, dir, mine); err != nil {
		t.Fatal(err)
	}
	other := &safe{name: "safe", with: 2}
	if _, err := reopen(t, dir, other); !brokenAt(err, filepath.Join(dir, keyName)) {
		t.Fatalf("with another: %v", err)
	}
	if _, err := Reset(dir, true); err != nil {
		t.Fatal(err)
	}
	if says, err := reopen(t, dir, other); err != nil || !strings.HasPrefix(says, "safe, in ") {
		t.Fatalf("after a reset: %q, %v", says, err)
	}
	for _, pattern := range []string{dbName + ".broken-*", keyName + ".broken-*"} {
		if found, _ := filepath.Glob(filepath.Join(dir, pattern)); len(found) != 1 {
			t.Errorf("%s: %v", pattern, found)
		}
	}
}

func TestWithoutAWayTheKeyFileIsTheKey(t *testing.T) {
	dir := t.TempDir()
	says, err := reopen(t, dir, &safe{name: "safe", gone: errors.New("not here")})
	if err != nil || !strings.Contains(says, "the key file") || !strings.Contains(says, "not here") {
		t.Fatalf("%q, %v", says, err)
	}
	if fi, err := os.Stat(filepath.Join(dir, keyName)); err != nil || fi.Size() != keySize {
		t.Fatalf("%v, %v", fi, err)
	}
}

func brokenAt(err error, path string) bool {
	e, ok := errors.AsType[*BrokenError](err)
	return ok && e.Path == path
}
