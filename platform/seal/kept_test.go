package seal

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"renewd/platform/keyring"
)

// drawer is a keyring with one entry.
type drawer struct {
	text   string
	locked bool
	sets   int
}

func (d *drawer) entry() entry {
	locked := errors.New("locked")
	return entry{
		get: func(context.Context) (string, error) {
			switch {
			case d.locked:
				return "", locked
			case d.text == "":
				return "", keyring.ErrNotFound
			}
			return d.text, nil
		},
		set: func(_ context.Context, s string) error {
			d.text = s
			d.sets++
			return nil
		},
	}
}

// A key that a keyring keeps opens with that keyring alone. A keyring that is
// locked is waited for; one that has lost the entry will never open it again.
func TestKeptKeyOpensWithItsKeyringAlone(t *testing.T) {
	d := &drawer{}
	s := kept("drawer", d.entry())
	key := bytes.Repeat([]byte{7}, 32)
	sealed, err := s.Seal(key)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.Seal(key); err != nil || bytes.Equal(again, sealed) || d.sets != 1 {
		t.Errorf("a second key: %v, sets %d; want another wrapping under the same secret", err, d.sets)
	}
	if got, err := s.Open(sealed); err != nil || !bytes.Equal(got, key) {
		t.Fatalf("opened %x, %v", got, err)
	}
	for name, other := range map[string]*drawer{"of another user": {text: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}, "empty": {}} {
		if _, err := kept("drawer", other.entry()).Open(sealed); !errors.Is(err, ErrOther) {
			t.Errorf("a drawer %s: %v", name, err)
		}
		if other.sets != 0 {
			t.Errorf("a drawer %s was written to", name)
		}
	}
	d.locked = true
	if _, err := s.Open(sealed); err == nil || errors.Is(err, ErrOther) {
		t.Errorf("a locked one: %v; want an error that may pass", err)
	}
}
