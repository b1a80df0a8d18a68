package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The Windows package is the same bytes too, signed as well, for all that wixl
// puts a clock and a random number in it.
func TestTheMSIIsReproducible(t *testing.T) {
	program(t, "wixl")
	cert, key := throwaway(t)
	o := options{version: "1.2.3", out: t.TempDir(), archs: []string{"amd64"}, formats: []string{"msi"}, when: time.Unix(1_790_000_000, 0).UTC(),
		cert: cert, key: key}
	first, err := build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	again := o
	again.out, again.root = t.TempDir(), copySource(t)
	t.Setenv("TZ", "Pacific/Auckland")
	second, err := build(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != 2 || len(second) != 2 {
		t.Fatalf("made %v and %v", first, second)
	}
	for i := range first {
		a, err := os.ReadFile(first[i])
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(second[i]); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: %d and %d bytes, not the same (%v)", filepath.Base(first[i]), len(a), len(b), err)
		}
	}
	signed(t, cert, first[0])
	for table, want := range map[string]string{
		"CustomAction":    "UnmakeService\t3410\trenewd.exe\tservice uninstall", // an installed program, deferred, on rollback, as SYSTEM, whatever its exit code
		"LaunchCondition": "Installed OR VersionNT64 >= 603",
		"Environment":     "=-*PATH\t[~];[INSTALLFOLDER]",
	} {
		out, err := exec.Command(program(t, "msiinfo"), "export", first[0], table).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s lacks %q: %v\n%s", table, want, err, out)
		}
	}
}

// throwaway makes a certificate that may sign code.
func throwaway(t *testing.T) (cert, key string) {
	t.Helper()
	program(t, "osslsigncode")
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	out, err := exec.Command(program(t, "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=a throwaway", "-days", "3650",
		"-addext", "extendedKeyUsage=codeSigning", "-keyout", key, "-out", cert).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return cert, key
}

// signed: the signature is good, and one changed byte makes it bad.
func signed(t *testing.T, cert, path string) {
	t.Helper()
	verify := func(path string) error {
		return exec.Command("osslsigncode", "verify", "-CAfile", cert, "-in", path).Run()
	}
	if err := verify(path); err != nil {
		t.Errorf("%s: the signature: %v", filepath.Base(path), err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(data, []byte("MSCF")) + 100_000 // in the middle of the cabinet
	data[at] ^= 1
	bad := filepath.Join(t.TempDir(), "bad.msi")
	if err := os.WriteFile(bad, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if verify(bad) == nil {
		t.Errorf("%s: a changed byte is not seen", filepath.Base(path))
	}
}

func TestVersionsThatWindowsCompares(t *testing.T) {
	for version, want := range map[string]string{"1.2.3": "1.2.3", "0.0.0-dev.57": "0.0.57", "1.2.3-rc.4": "1.2.3", "1.2.0-rc.4": "1.2.0", "1.2.3+x": "1.2.3",
		"1.2": "", "300.1.1": "", "1.1.70000": "", "v1.2.3": "", "1.2.x": "", "1.-2.3": ""} {
		got, err := msiVersion(version)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", version, got, err, want)
		}
	}
}

func TestWhatIsNoPackageIsNotSettled(t *testing.T) {
	for _, data := range [][]byte{nil, make([]byte, 1000), []byte(strings.Repeat("\xe0\x85\x9f\xf2\xf9\x4f\x68\x10\xab\x91\x08\x00\x2b\x27\xb3\xd9", 3)),
		append(append([]byte{0xfe, 0xff}, make([]byte, 26)...), 0xe0, 0x85, 0x9f, 0xf2, 0xf9, 0x4f, 0x68, 0x10, 0xab, 0x91, 0x08, 0x00, 0x2b, 0x27, 0xb3, 0xd9)} {
		if err := settle(data, time.Unix(0, 0)); err == nil {
			t.Errorf("%d bytes were taken for a package", len(data))
		}
	}
}
