package account

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/windows"
)

// Who could change a file or what stands above it, by lists as Windows has them.
func TestWhoCouldChangeIt(t *testing.T) {
	const me, other = "S-1-5-21-1-2-3-1000", "S-1-5-21-1-2-3-1001"
	const file, dir, private = changesFile, changesDir, anyRight
	for _, c := range []struct {
		name   string
		sddl   string
		rights windows.ACCESS_MASK
		who    string // "": nobody
		owns   bool
	}{
		{"C:", "O:" + trustedInstaller + "D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;BU)(A;OICIIO;SDGXGWGR;;;AU)(A;;LC;;;AU)", dir, "", false},
		{"ProgramData", "O:SYD:PAI(A;OICIIO;GA;;;CO)(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;BU)(A;CI;DCLCRPCR;;;BU)", dir, "", false},
		{"as it is installed", "O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;" + Service("renewd") + ")", dir, "", false},
		{"a user's own", "O:" + me + "D:(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;FA;;;" + me + ")", file, "", false},
		{"one that somebody else owns", "O:" + other + "D:P(A;;FA;;;" + me + ")", file, other, true},
		{"a service that is not this process", "O:" + Service("renewd") + "D:P(A;;FA;;;BA)", file, Service("renewd"), true},
		{"everybody writes", "O:BAD:(A;;FA;;;BA)(A;;GW;;;WD)", file, "S-1-1-0", false},
		{"users append", "O:BAD:(A;;FA;;;BA)(A;;0x4;;;BU)", file, "S-1-5-32-545", false},
		{"users delete in it", "O:BAD:(A;;FA;;;BA)(A;;0x40;;;BU)", dir, "S-1-5-32-545", false},
		{"users rename it", "O:BAD:(A;;FA;;;BA)(A;;SD;;;BU)", dir, "S-1-5-32-545", false},
		{"users make files in it", "O:BAD:(A;;FA;;;BA)(A;;0x6;;;BU)", dir, "", false},
		{"somebody changes the list", "O:BAD:(A;;WD;;;" + other + ")", file, other, false},
		{"only what is made in it", "O:BAD:(A;OICIIO;FA;;;WD)(A;;FA;;;BA)", dir, "", false},
		{"readers", "O:BAD:(A;;FR;;;WD)(A;;0x1200a9;;;BU)", file, "", false},
		{"one's own", "O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;" + me + ")(A;OICIIO;GA;;;CO)", private, "", false},
		{"readers of what is private", "O:BAD:P(A;;FA;;;BA)(A;;FR;;;BU)", private, "S-1-5-32-545", false},
		{"readers of what is made in it", "O:BAD:P(A;;FA;;;BA)(A;OICIIO;FR;;;BU)", private, "S-1-5-32-545", false},
		{"no list", "O:BA", file, "S-1-1-0", false},
		{"the owner again", "O:BAD:(A;;FA;;;CO)(A;;FA;;;OW)", file, "", false},
	} {
		sd, err := windows.SecurityDescriptorFromString(c.sddl)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		err = verify(sd, c.name, me, c.rights)
		e, bad := errors.AsType[*UntrustedError](err)
		if bad != (c.who != "") || err != nil && !bad || bad && (e.SID != c.who || e.Owns != c.owns) {
			t.Errorf("%s: %v; want %q", c.name, err, c.who)
		}
	}
}

// A file of one's own, all the way up.
func TestOwnFilesAreTrusted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Verify(path); err != nil {
		t.Fatal(err)
	}
	everybody, err := windows.SecurityDescriptorFromString("D:P(A;;FA;;;WD)")
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := everybody.DACL()
	if err != nil {
		t.Fatal(err)
	}
	if err := windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, list, nil); err != nil {
		t.Fatal(err)
	}
	if _, bad := errors.AsType[*UntrustedError](Verify(path)); !bad {
		t.Error("a file that everybody may write is trusted")
	}
}
