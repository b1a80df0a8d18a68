package harden_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"renewd/platform/harden"
)

// child names the directory that a child of the test works in: what is given up
// is given up for good, so it is this program again that does it.
const child = "RENEWD_CONFINED"

func TestMain(m *testing.M) {
	if dir := os.Getenv(child); dir != "" {
		confined(dir)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// What the config names can be used, by files that replace each other too; the
// rest of the machine cannot, from any thread, and not by another program.
func TestConfineDenies(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"read/sub", "write", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"read/sub/f", "other/f"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := withChild(t, dir, func() error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "new"), []byte("y"), 0o600),
			os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "read/sub/f")),
			os.Rename(filepath.Join(dir, "write"), filepath.Join(dir, "old")), os.Mkdir(filepath.Join(dir, "write"), 0o700))
	})
	if strings.Contains(out, "no landlock") {
		t.Skipf("this kernel has no Landlock: %s", out)
	}
	want := []string{"process: ok", "dumpable 0, new privileges 1", "confine: ok", "read: ok", "write below read: denied", "write: ok", "rename: ok", "make a directory: ok",
		"read elsewhere: denied", "write elsewhere: denied", "from all threads: denied", "run a program: denied", "names: ok",
		"lacks other: [" + filepath.Join(dir, "other") + "]", "read what a rename replaced: ok", "lacks replaced: [" + filepath.Join(dir, "write") + "]"}
	if got := strings.TrimSpace(out); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", out, strings.Join(want, "\n"))
	}
}

// withChild runs confined and, when it asks for it, what another process would do
// meanwhile. It gives what confined said.
func withChild(t *testing.T, dir string, meanwhile func() error) (said string) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), child+"="+dir)
	c.Stderr = os.Stderr
	in, err1 := c.StdinPipe()
	out, err2 := c.StdoutPipe()
	if err := errors.Join(err1, err2, c.Start()); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() != asks {
			said += lines.Text() + "\n"
			continue
		}
		if err := meanwhile(); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(in, "\n")
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return said
}

// asks is what the child says to have its parent do something.
const asks = "?"

// confined gives things up and says what is left.
func confined(dir string) {
	at := func(name string) string { return filepath.Join(dir, name) }
	try := func(what string, err error) {
		switch {
		case err == nil:
			fmt.Println(what + ": ok")
		case errors.Is(err, fs.ErrPermission):
			fmt.Println(what + ": denied")
		default:
			fmt.Println(what+":", err)
		}
	}
	put := func(name string) error { return os.WriteFile(at(name), []byte("y"), 0o600) }
	get := func(name string) error { _, err := os.ReadFile(name); return err }
	try("process", harden.Process())
	dumps, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	nnp, _ := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	fmt.Printf("dumpable %d, new privileges %d\n", dumps, nnp)
	dirs := harden.Dirs{Read: []string{at("read"), at("missing")}, Write: []string{at("write")}}
	c, err := harden.Confine(dirs)
	if !c.On() {
		fmt.Println("no landlock:", err)
		return
	}
	try("confine", err)
	try("read", get(at("read/sub/f")))
	try("write below read", put("read/g"))
	try("write", put("write/a"))
	try("rename", os.Rename(at("write/a"), at("write/b")))
	try("make a directory", os.Mkdir(at("write/d"), 0o700))
	try("read elsewhere", get(at("other/f")))
	try("write elsewhere", put("other/g"))
	fail := make(chan error)
	for range 8 {
		go func() { fail <- get(at("other/f")) }()
	}
	worst := error(fs.ErrPermission)
	for range 8 {
		if err := <-fail; !errors.Is(err, fs.ErrPermission) {
			worst = err
		}
	}
	try("from all threads", worst)
	try("run a program", exec.Command("/bin/true").Run())
	try("names", get("/etc/passwd"))
	fmt.Println("lacks other:", c.Lacks(harden.Dirs{Read: []string{at("read/sub"), at("other")}, Write: []string{at("write")}}))
	fmt.Println(asks)
	_, _ = os.Stdin.Read(make([]byte, 1))
	try("read what a rename replaced", get(at("read/sub/f")))
	fmt.Println("lacks replaced:", c.Lacks(harden.Dirs{Write: []string{at("write")}}))
}
