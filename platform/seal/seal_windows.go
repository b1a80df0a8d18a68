package seal

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Sealers are the ways to seal of this system, the best first. The machine's
// agent seals for the machine: an administrator who checks the config, and a
// service that is given another account, must be able to open the state, and who
// on the machine may read the file its access list says. A user's own agent
// seals for the account.
func Sealers(machine bool) []*Sealer {
	all := []*Sealer{dpapi("DPAPI of this account", 0), dpapi("DPAPI of this machine", windows.CRYPTPROTECT_LOCAL_MACHINE)}
	if machine {
		all[0], all[1] = all[1], all[0]
	}
	return all
}

// dpapi wraps with Windows' data protection (CryptProtectData).
func dpapi(name string, scope uint32) *Sealer {
	// Not a secret: it keeps blobs of other programs from being taken for ours.
	purpose := []byte("renewd state key")
	return &Sealer{
		name: name,
		seal: func(key []byte) ([]byte, error) {
			var out windows.DataBlob
			if err := windows.CryptProtectData(blob(key), nil, blob(purpose), 0, nil, scope|windows.CRYPTPROTECT_UI_FORBIDDEN, &out); err != nil {
				return nil, fmt.Errorf("seal with %s: %w", name, err)
			}
			return taken(&out), nil
		},
		open: func(sealed []byte) ([]byte, error) {
			if len(sealed) == 0 {
				return nil, fmt.Errorf("open with %s: nothing is there: %w", name, ErrOther)
			}
			var out windows.DataBlob
			err := windows.CryptUnprotectData(blob(sealed), nil, blob(purpose), 0, nil, windows.CRYPTPROTECT_UI_FORBIDDEN, &out)
			for _, other := range []error{windows.ERROR_INVALID_DATA, windows.Errno(windows.NTE_BAD_KEY_STATE), windows.ERROR_INVALID_PARAMETER} {
				if errors.Is(err, other) {
					err = fmt.Errorf("%w: %w", ErrOther, err)
				}
			}
			if err != nil {
				return nil, fmt.Errorf("open with %s: %w", name, err)
			}
			return taken(&out), nil
		},
	}
}

func blob(b []byte) *windows.DataBlob {
	return &windows.DataBlob{Size: uint32(len(b)), Data: &b[0]}
}

// taken copies what Windows allocated, wipes it and gives it back.
func taken(b *windows.DataBlob) []byte {
	theirs := unsafe.Slice(b.Data, b.Size)
	out := append([]byte(nil), theirs...)
	clear(theirs)
	_, _ = windows.LocalFree(windows.Handle(unsafe.Pointer(b.Data)))
	return out
}
