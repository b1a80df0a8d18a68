package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const installed = `C:\Program Files\renewd\renewd.exe`

// installers are two versions of the Windows package, signed by nobody in
// particular.
func installers(t *testing.T) (older, newer string) {
	t.Helper()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	commands := [][]string{{"openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=a throwaway", "-addext", "extendedKeyUsage=codeSigning",
		"-keyout", key, "-out", cert}}
	for _, version := range []string{"1.0.0", "1.1.0"} {
		commands = append(commands, []string{"go", "run", "./packaging/build", "-formats", "msi", "-archs", "amd64", "-version", version,
			"-out", dir, "-cert", cert, "-key", key})
	}
	for _, args := range commands {
		c := exec.CommandContext(t.Context(), args[0], args[1:]...)
		c.Dir = source(t)
		c.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1790000000")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", strings.Join(args[:3], " "), err, out)
		}
	}
	return filepath.Join(dir, "renewd_1.0.0_windows_amd64.msi"), filepath.Join(dir, "renewd_1.1.0_windows_amd64.msi")
}

// msiexec installs (/i) or removes (/x) a package without a word, and gives what
// it wrote into its log where it did not work.
func (w *wine) msiexec(verb, msi string) (log string, err error) {
	w.t.Helper()
	text, err := os.ReadFile(msi)
	if err := errors.Join(err, os.WriteFile(w.c(`C:\package.msi`), text, 0o644)); err != nil {
		w.t.Fatal(err)
	}
	said, err := w.try(nil, w.loader, "msiexec", verb, `C:\package.msi`, "/qn", "/norestart", "/l*v", `C:\msi.log`)
	if err != nil {
		text, _ := os.ReadFile(w.c(`C:\msi.log`))
		said += "\n" + strings.NewReplacer("\x00", "", "\r", "").Replace(string(text))
	}
	return said, err
}

func (w *wine) must(verb, msi string) {
	w.t.Helper()
	if log, err := w.msiexec(verb, msi); err != nil {
		w.t.Fatalf("msiexec %s: %v\n%s", verb, err, log)
	}
}

// The package: installed it runs, as the program's own verb would have it; a
// later one takes its place and keeps what is the admin's and the state; an
// earlier one is refused; removed it leaves data and nothing else.
func TestE2EWineMSI(t *testing.T) {
	w := newWine(t)
	vendor, url := w.vendor()
	older, newer := installers(t)

	w.must("/i", older)
	eventually(t, "the service", 30*time.Second, func() bool {
		said, err := w.try(nil, w.loader, installed, "service", "status")
		return err == nil && strings.Contains(said, "state: running")
	})
	key := w.run("reg", "query", `HKLM\SYSTEM\CurrentControlSet\Services\renewd`)
	if !strings.Contains(key, `"`+installed+`" run`) || !strings.Contains(key, `NT SERVICE\renewd`) {
		t.Errorf("the service is\n%s", key)
	}
	const environment = `HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\Environment`
	if path := w.run("reg", "query", environment, "/v", "PATH"); !strings.Contains(path, `C:\Program Files\renewd\`) {
		t.Errorf("it is not in the PATH:\n%s", path)
	}
	config := windowsConfig(url)
	w.write(data+`\commander.password`, password)
	w.write(data+`\renewd.yaml`, config)
	// The agent runs without a config, and takes the one that comes.
	eventually(t, "the token", 30*time.Second, func() bool { return w.generation(installed) > 0 })
	before := w.generation(installed)

	w.must("/i", newer)
	if said := w.run(installed, "version"); !strings.HasPrefix(said, "renewd 1.1.0 ") {
		t.Errorf("after the upgrade it is %q", said)
	}
	eventually(t, "the token after the upgrade", 30*time.Second, func() bool { return w.generation(installed) >= before })
	if text, _ := os.ReadFile(w.c(data + `\renewd.yaml`)); string(text) != config {
		t.Error("the upgrade changed the admin's config")
	}
	if n := vendor.Counts().Logins; n != 1 {
		t.Errorf("%d logins, one was needed", n)
	}
	if log, err := w.msiexec("/i", older); err == nil {
		t.Errorf("an earlier version took its place:\n%s", log)
	}

	w.must("/x", newer)
	if out := w.refused("reg", "query", `HKLM\SYSTEM\CurrentControlSet\Services\renewd`); strings.Contains(out, "ImagePath") {
		t.Errorf("the service is left:\n%s", out)
	}
	w.refused("reg", "query", `HKLM\SYSTEM\CurrentControlSet\Services\EventLog\Application\renewd`)
	if path := w.run("reg", "query", environment, "/v", "PATH"); strings.Contains(path, `renewd`) {
		t.Errorf("it is left in the PATH:\n%s", path)
	}
	if left, _ := filepath.Glob(w.c(`C:\Program Files\renewd\*`)); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	for _, kept := range []string{`\renewd.yaml`, `\commander.password`, `\state\state.db`, `\state\state.key`} {
		if _, err := os.Stat(w.c(data + kept)); err != nil {
			t.Errorf("what is not the package's is gone: %v", err)
		}
	}
}
