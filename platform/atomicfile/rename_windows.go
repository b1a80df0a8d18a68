package atomicfile

import (
	"errors"
	"slices"
	"unsafe"

	"golang.org/x/sys/windows"
)

// rename replaces to and returns when that is on the disk, so no directory has to
// be flushed. As POSIX has it, where the system and the volume can: a reader that
// has the old file open, sharing its deletion, keeps that and is not waited for.
func rename(from, to string) error {
	err := renamePOSIX(from, to)
	if lacksPOSIX(err) {
		return move(from, to)
	}
	return err
}

// renamePOSIX is the rename of Windows 10 1607 and later on NTFS.
func renamePOSIX(from, to string) error {
	return renameInfo(from, to, windows.FileRenameInfoEx, windows.FILE_RENAME_REPLACE_IF_EXISTS|windows.FILE_RENAME_POSIX_SEMANTICS)
}

// lacksPOSIX says that the system or the volume does not know such a rename: which
// of these they answer depends on both.
func lacksPOSIX(err error) bool {
	return slices.ContainsFunc([]windows.Errno{windows.ERROR_INVALID_PARAMETER, windows.ERROR_NOT_SUPPORTED, windows.ERROR_INVALID_FUNCTION, windows.ERROR_INVALID_LEVEL, windows.ERROR_CALL_NOT_IMPLEMENTED},
		func(e windows.Errno) bool { return errors.Is(err, e) })
}

// fileRenameInfo is FILE_RENAME_INFO (winbase.h); the name follows in the same
// buffer.
type fileRenameInfo struct {
	flags  uint32
	root   windows.Handle
	length uint32 // of the name, in bytes, without its NUL
	name   [1]uint16
}

// renameInfo renames by SetFileInformationByHandle. With a handle that writes
// through, NTFS has flushed the rename when the call returns (CreateFileW).
func renameInfo(from, to string, class, flags uint32) error {
	name, err := windows.UTF16FromString(to)
	if err != nil {
		return err
	}
	f, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	const head = unsafe.Offsetof(fileRenameInfo{}.name)
	buf := make([]uint64, (head+2*uintptr(len(name))+7)/8) // aligned as its first fields want it
	info := (*fileRenameInfo)(unsafe.Pointer(&buf[0]))
	info.flags, info.length = flags, uint32(2*(len(name)-1))
	copy(unsafe.Slice(&info.name[0], len(name)), name)

	const share = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE // with who reads the new file already
	h, err := windows.CreateFile(f, windows.DELETE|windows.SYNCHRONIZE, share, nil, windows.OPEN_EXISTING, windows.FILE_FLAG_OPEN_REPARSE_POINT|windows.FILE_FLAG_WRITE_THROUGH, 0)
	if err != nil {
		return err
	}
	defer windows.CloseHandle(h)
	return windows.SetFileInformationByHandle(h, class, (*byte)(unsafe.Pointer(info)), uint32(head)+2*uint32(len(name)))
}

// move is the rename that every Windows has.
func move(from, to string) error {
	f, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	t, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return err
	}
	return windows.MoveFileEx(f, t, windows.MOVEFILE_REPLACE_EXISTING|windows.MOVEFILE_WRITE_THROUGH)
}
