package ipc

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/windows"

	"renewd/platform/account"
	"renewd/platform/paths"
)

// private is a directory of ours alone.
func private(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "own")
	if err := paths.MakePrivate(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A Unix socket is opened, serves, replaces a dead one, and is gone when it is
// closed. Wine has none.
func TestAUnixSocketServes(t *testing.T) {
	path := filepath.Join(private(t), "renewd.usock")
	for _, crashes := range []bool{true, false} {
		l, err := ListenUnknown(path)
		if errors.Is(err, windows.WSAEAFNOSUPPORT) {
			t.Skipf("this system has no Unix sockets: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ListenUnknown(path); !errors.Is(err, ErrInUse) {
			t.Errorf("a second one: %v", err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, "hello")
				_ = c.Close()
			}
		}()
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); string(b) != "hello" {
			t.Errorf("it says %q, %v", b, err)
		}
		_ = c.Close()
		l.Listener.(*net.UnixListener).SetUnlinkOnClose(!crashes)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(path); (err == nil) != crashes {
			t.Errorf("after its end: %v", err)
		}
	}
}

// No socket where somebody else could reach or replace it, nor in place of a file.
func TestAUnixSocketWantsAPlaceOfItsOwn(t *testing.T) {
	dir := private(t)
	path := filepath.Join(dir, "x")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenUnknown(path); err == nil || errors.Is(err, windows.WSAEAFNOSUPPORT) {
		t.Errorf("in place of a file: %v", err)
	}
	if b, err := os.ReadFile(path); string(b) != "mine" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	readers, err := windows.SecurityDescriptorFromString("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FR;;;WD)")
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := readers.DACL()
	if err != nil {
		t.Fatal(err)
	}
	if err := windows.SetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, list, nil); err != nil {
		t.Fatal(err)
	}
	_, err = ListenUnknown(filepath.Join(dir, "y"))
	if _, bad := errors.AsType[*account.UntrustedError](err); !bad {
		t.Errorf("where everybody may read: %v", err)
	}
}
