package seal

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
)

// Whatever this system has: what was sealed opens, is no copy of the key, and
// does not open where it was changed.
func TestWhatIsSealedOpens(t *testing.T) {
	for _, machine := range []bool{false, true} {
		names := map[string]bool{}
		for _, s := range Sealers(machine) {
			names[s.Name()] = true
			key := make([]byte, 32)
			_, _ = rand.Read(key)
			sealed, err := s.Seal(key)
			if err != nil {
				t.Fatalf("%s: %v", s.Name(), err)
			}
			if bytes.Contains(sealed, key) || strings.Contains(s.Name(), "\n") {
				t.Errorf("%s: the key is in it", s.Name())
			}
			got, err := s.Open(sealed)
			if err != nil || !bytes.Equal(got, key) {
				t.Errorf("%s: %v", s.Name(), err)
			}
			changed := bytes.Clone(sealed)
			changed[len(changed)-1] ^= 1
			for _, bad := range [][]byte{changed, sealed[:len(sealed)/2], nil, []byte("other")} {
				if _, err := s.Open(bad); err == nil {
					t.Errorf("%s opens %d bytes that it did not seal", s.Name(), len(bad))
				}
			}
		}
		if len(names) != len(Sealers(machine)) {
			t.Errorf("sealers share a name: %v", names)
		}
	}
}
