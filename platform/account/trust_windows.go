package account

import (
	"errors"
	"fmt"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/windows"
)

// UntrustedError says that somebody who is neither SYSTEM, an administrator nor
// this process's account could change what stands at a path.
type UntrustedError struct {
	Path string
	SID  string // whose it is, or who may change it
	Owns bool
	Uses bool // without being able to change it, perhaps
}

func (e *UntrustedError) Error() string {
	if e.Owns {
		return fmt.Sprintf("%s belongs to %s, who could change it", e.Path, Name(e.SID))
	}
	return fmt.Sprintf("%s may be %s by %s", e.Path, map[bool]string{false: "changed", true: "used"}[e.Uses], Name(e.SID))
}

// Rights on a file, or on a directory, that lead to other content at a name. To
// make something new in a directory is not one of them, as in a sticky directory
// of Unix: what is made belongs to who made it, which is looked at too.
const (
	changesAny  = windows.DELETE | windows.WRITE_DAC | windows.WRITE_OWNER | windows.GENERIC_ALL
	changesFile = changesAny | windows.GENERIC_WRITE | windows.FILE_WRITE_DATA | windows.FILE_APPEND_DATA
	changesDir  = changesAny | deleteChild
	deleteChild = 0x40 // FILE_DELETE_CHILD

	// anyRight is for what nobody else may use at all, nor anything that is made in it.
	anyRight = ^windows.ACCESS_MASK(0)
)

// Well-known accounts that already own the machine, or stand for an owner.
const (
	trustedInstaller = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
	creatorOwner     = "S-1-3-0"
	ownerRights      = "S-1-3-4"
)

// Verify returns an *UntrustedError where somebody else could change the file at
// path, or swap it or a directory above it for another, by owners and access
// lists.
func Verify(path string) error { return upwards(path, changesFile) }

// VerifyDir is Verify for a directory, in which others may make files of their
// own, but not touch those of somebody else.
func VerifyDir(path string) error { return upwards(path, changesDir) }

// VerifyPrivate is Verify for a directory that nobody else may use at all, nor what
// is made in it.
func VerifyPrivate(path string) error { return upwards(path, anyRight) }

func upwards(path string, rights windows.ACCESS_MASK) error {
	me, err := Own()
	if err != nil {
		return err
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return err
	}
	for at := path; ; at = filepath.Dir(at) {
		sd, err := windows.GetNamedSecurityInfo(at, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
		if err != nil {
			return fmt.Errorf("ask who may change %s: %w", at, err)
		}
		if err := verify(sd, at, me, rights); err != nil {
			return err
		}
		if at == filepath.Dir(at) {
			return nil
		}
		rights = changesDir
	}
}

func verify(sd *windows.SECURITY_DESCRIPTOR, path, me string, rights windows.ACCESS_MASK) error {
	trusted := func(sid string) bool {
		switch sid {
		case System, Administrators, trustedInstaller, me:
			return true
		}
		return false
	}
	owner, _, err := sd.Owner()
	if err != nil {
		return fmt.Errorf("ask whose %s is: %w", path, err)
	}
	if !trusted(owner.String()) {
		return &UntrustedError{Path: path, SID: owner.String(), Owns: true}
	}
	list, _, err := sd.DACL()
	if errors.Is(err, windows.ERROR_OBJECT_NOT_FOUND) || err == nil && list == nil {
		return &UntrustedError{Path: path, SID: "S-1-1-0"} // without a list everybody may do everything
	}
	if err != nil {
		return fmt.Errorf("ask who may change %s: %w", path, err)
	}
	for i := range uint32(list.AceCount) {
		var ace *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(list, i, &ace); err != nil {
			return fmt.Errorf("ask who may change %s: %w", path, err)
		}
		const callback = 9 // ACCESS_ALLOWED_CALLBACK_ACE: the same, under a condition
		allows := ace.Header.AceType == windows.ACCESS_ALLOWED_ACE_TYPE || ace.Header.AceType == callback
		if !allows || ace.Header.AceFlags&windows.INHERIT_ONLY_ACE != 0 && rights != anyRight || ace.Mask&rights == 0 {
			continue // entries that deny only ever take away
		}
		sid := (*windows.SID)(unsafe.Pointer(&ace.SidStart)).String()
		if !trusted(sid) && sid != creatorOwner && sid != ownerRights { // those are the owner, who is trusted
			return &UntrustedError{Path: path, SID: sid, Uses: rights == anyRight}
		}
	}
	return nil
}

// Name is how people call an account; its SID where it has no name.
func Name(sid string) string {
	s, err := windows.StringToSid(sid)
	if err != nil {
		return sid
	}
	name, domain, _, err := s.LookupAccount("")
	if err != nil {
		return sid
	}
	if domain != "" {
		name = domain + `\` + name
	}
	return name
}
