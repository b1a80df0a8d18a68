package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// wine is a Windows of its own, as Wine 10 has it: programs, services, registry
// and a drive C:. It shows how renewd behaves there. What it cannot show, and no
// test here claims:
//   - that an access list keeps anybody out, of a file, a directory or the pipe:
//     lists are set and read back, files' as far as Unix modes say the same;
//   - that an account has fewer rights than another: all is one account, an
//     administrator's, in session 1, whatever the service's entry names;
//   - that a client at anonymous level stays unknown, and one of another account
//     is refused, or let in by allow;
//   - a service's own SID, its privileges and its recovery, which Wine does not
//     keep; that a crashed service is started again; how long a start is delayed;
//   - what the event log keeps: only what it is told is seen, without its id;
//   - that DPAPI's keys are secret, or differ between accounts and machines;
//   - shutdown, sleep, and a resumed machine;
//   - that a signature is trusted, raised rights are asked for, and an
//     installation that fails is rolled back;
//   - PowerShell, Unix sockets, symlinks, and a rename over a file that readers
//     share for deletion.
type wine struct {
	t      *testing.T
	loader string
	server string
	prefix string
	env    []string
	events string // file of what programs told the event log
}

// wineScript unpacks Wine and what a console program of it loads into the
// working directory, to be used at $1. Debian 12's own Wine 8 runs no program of
// this Go (it lacks bcryptprimitives.dll), and 10 wants a later libc than
// Debian 12 has: so nothing is installed, and the programs are told to use the
// libc beside them.
const wineScript = `set -eu
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' | grep -v security | head -n 1)
[ -n "$mirror" ] || { echo "apt has no source of packages, or no list of one: apt-get update"; exit 1; }
mkdir -p apt/lists/partial apt/archives/partial debs root
: >apt/status
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >apt/sources
{
	apt-config dump | grep -E '^Acquire::(http|https|Retries|ForceIPv[46])(::| )' | grep -v ' "";$' || true
	cat <<END
Dir::Etc::SourceList "$PWD/apt/sources";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "$PWD/apt";
Dir::State::Lists "$PWD/apt/lists";
Dir::State::Status "$PWD/apt/status";
Dir::Cache "$PWD/apt";
Acquire::Languages "none";
APT::Sandbox::User "root";
END
} >apt/conf
export APT_CONFIG=$PWD/apt/conf
apt-get -qq update
cd debs
apt-get -qq download wine64 libwine libz-mingw-w64 libc6 libgcc-s1 libunwind8 liblzma5 zlib1g libzstd1 \
	libbrotli1 libgnutls30t64 libp11-kit0 libidn2-0 libunistring5 libtasn1-6 libnettle8t64 libhogweed6t64 \
	libgmp10 libffi8 libudev1 libcap2
cd ..
for deb in debs/*.deb; do
	dpkg-deb --fsys-tarfile "$deb" | tar -x -C root --exclude='./usr/share/doc' --exclude='./usr/share/man' \
		--exclude='./usr/share/locale' --exclude='*/i386-windows' --exclude='*/winex11.so' --exclude='*/winewayland.so'
done
rm -r apt debs
# libwine's postinst: zlib becomes a DLL that Wine takes for one of its own, by a
# mark of 32 bytes in the stub before the program.
python3 - root/usr/x86_64-w64-mingw32/lib/zlib1.dll root/usr/lib/x86_64-linux-gnu/wine/x86_64-windows/zlib1.dll <<'END'
import sys
dll = bytearray(open(sys.argv[1], "rb").read())
dll[64:96] = b"Wine builtin DLL".ljust(32, b"\0")
open(sys.argv[2], "wb").write(dll)
END
ln -sf wineserver64 root/usr/lib/wine/wineserver
ln -sfn . root/usr/share/wine/wine
for program in wine64 wineserver64; do
	patchelf --set-interpreter "$1/root/usr/lib64/ld-linux-x86-64.so.2" --force-rpath \
		--set-rpath "$1/root/usr/lib/x86_64-linux-gnu" "root/usr/lib/wine/$program"
done
`

// prefixScript makes a drive C: and a registry in $WINEPREFIX. There is no
// display; msiexec has windows all the same, on a driver that draws nothing.
// Wine's DLLs are 700 MB of copies of its own: they become one file each.
const prefixScript = `set -eu
"$WINELOADER" wineboot -i
"$WINELOADER" reg add 'HKCU\Software\Wine\Drivers' /v Graphics /d null /f
"$WINELOADER" reg add 'HKCU\Software\Wine\WineDbg' /v ShowCrashDialog /t REG_DWORD /d 0 /f
"$WINESERVER" -k || true
"$WINESERVER" -w
cd "$WINEPREFIX/drive_c/windows/system32"
for dll in *.*; do
	if cmp -s "$dll" "$1/$dll"; then ln -f "$1/$dll" "$dll"; fi
done
`

// wineHome gives the unpacked Wine with a fresh prefix in it, made once for this
// checkout.
func wineHome(t *testing.T) string {
	t.Helper()
	cache := cacheDir(t)
	home := filepath.Join(cache, "wine-1") // another number where what is in it changes
	if exec.Command(filepath.Join(home, "root/usr/lib/wine/wine64"), "--version").Run() == nil {
		return home
	}
	began := time.Now()
	tmp, err := os.MkdirTemp(cache, "making-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	shell(t, tmp, nil, wineScript, home)
	if err := errors.Join(os.RemoveAll(home), os.Chmod(tmp, 0o755), os.Rename(tmp, home)); err != nil {
		t.Fatal(err)
	}
	made := false
	defer func() {
		if !made {
			_ = os.RemoveAll(home)
		}
	}()
	env := wineEnv(home, filepath.Join(home, "prefix"))
	shell(t, home, env, prefixScript, filepath.Join(home, "root/usr/lib/x86_64-linux-gnu/wine/x86_64-windows"))
	made = true
	t.Logf("Wine was unpacked in %v", time.Since(began).Round(time.Second))
	return home
}

// cacheDir is where this checkout keeps what is costly to make.
func cacheDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("RENEWD_E2E_CACHE")
	if dir == "" {
		dir = filepath.Join(source(t), ".cache", "e2e")
	}
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// source is the top of this checkout.
func source(t *testing.T) string {
	t.Helper()
	top, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(top))
}

// shell runs a script, and fails the test with what it said.
func shell(t *testing.T, dir string, env []string, script string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	// Wine's server outlives the script and would hold a pipe of ours open.
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c := exec.CommandContext(ctx, "bash", append([]string{"-c", script, "setup"}, args...)...)
	c.Dir, c.Env, c.Stdout, c.Stderr = dir, append(os.Environ(), env...), log, log
	if err := c.Run(); err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("set up Wine: %v: %s", err, text)
	}
}

func wineEnv(home, prefix string) []string {
	programs := filepath.Join(home, "root/usr/lib/wine")
	return []string{"WINEPREFIX=" + prefix, "WINEARCH=win64", "WINEDEBUG=-all", "DISPLAY=", "WAYLAND_DISPLAY=",
		"WINELOADER=" + filepath.Join(programs, "wine64"), "WINESERVER=" + filepath.Join(programs, "wineserver"),
		"WINEDLLOVERRIDES=mscoree=d;mshtml=d;winemenubuilder.exe=d"}
}

// newWine starts a Windows with a C: and a registry of its own.
func newWine(t *testing.T) *wine {
	t.Helper()
	require(t, "wine", "runs Wine, fetched from Debian")
	home := wineHome(t)
	w := &wine{t: t, prefix: filepath.Join(t.TempDir(), "prefix")}
	w.env = wineEnv(home, w.prefix)
	w.loader, w.server = filepath.Join(home, "root/usr/lib/wine/wine64"), filepath.Join(home, "root/usr/lib/wine/wineserver")
	w.events = w.prefix + ".events"
	// Files that Wine replaces whole may be shared; the registry is its own.
	for _, args := range [][]string{{"-al", filepath.Join(home, "prefix"), w.prefix}, {"-a", "--remove-destination", filepath.Join(home, "prefix/system.reg"),
		filepath.Join(home, "prefix/user.reg"), filepath.Join(home, "prefix/userdef.reg"), w.prefix}} {
		if out, err := exec.Command("cp", args...).CombinedOutput(); err != nil {
			t.Fatalf("copy the prefix: %v: %s", err, out)
		}
	}
	t.Cleanup(w.down)
	// -p: else services end 3 s after the last ordinary program.
	if out, err := w.try(nil, w.server, "-p"); err != nil {
		t.Fatalf("start Wine's server: %v: %s", err, out)
	}
	// The first program boots the machine, and services inherit its output: on
	// this channel Wine tells what it is told for the event log, and keeps nothing.
	events, err := os.Create(w.events)
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	first := exec.CommandContext(t.Context(), w.loader, "cmd", "/c", "exit", "0")
	first.Env = append(append(os.Environ(), w.env...), "WINEDEBUG=-all,+eventlog")
	first.Stdout, first.Stderr = events, events
	if err := first.Run(); err != nil {
		t.Fatalf("boot Wine: %v", err)
	}
	return w
}

// down ends all programs of this Windows and no other's.
func (w *wine) down() {
	if w.t.Failed() {
		text, _ := os.ReadFile(w.events)
		w.t.Logf("the event log was told:\n%s", text)
	}
	for _, flag := range []string{"-k", "-w"} {
		c := exec.Command(w.server, flag)
		c.Env = append(os.Environ(), w.env...)
		_ = c.Run()
	}
}

// c is a path on drive C: as this machine sees it.
func (w *wine) c(path string) string {
	return filepath.Join(w.prefix, "drive_c", filepath.FromSlash(strings.ReplaceAll(strings.TrimPrefix(path, `C:\`), `\`, "/")))
}

// try runs a program, of this machine or of Windows, and gives what it printed.
func (w *wine) try(env []string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	// A file and not a pipe: a service that the program starts may keep it open.
	out, err := os.CreateTemp(w.t.TempDir(), "out")
	if err != nil {
		return "", err
	}
	defer out.Close()
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	c.Env = append(append(os.Environ(), w.env...), env...)
	c.Stdout, c.Stderr = out, out
	err = c.Run()
	text, rerr := os.ReadFile(out.Name())
	return string(bytes.TrimSpace(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")))), errors.Join(err, rerr)
}

// run runs a Windows program that must succeed.
func (w *wine) run(args ...string) string {
	w.t.Helper()
	out, err := w.try(nil, append([]string{w.loader}, args...)...)
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// refused runs a Windows program that must not.
func (w *wine) refused(args ...string) string {
	w.t.Helper()
	out, err := w.try(nil, append([]string{w.loader}, args...)...)
	if err == nil {
		w.t.Fatalf("%s: it worked, and must not\n%s", strings.Join(args, " "), out)
	}
	return out
}

// The packages that differ on Windows pass their own tests there.
func TestE2EWinePackages(t *testing.T) {
	w := newWine(t)
	c := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-vet=off", "-timeout=3m", "-exec", w.loader,
		"./platform/...", "./sink/...", "./agent/state", "./agent/watch")
	c.Dir = source(t)
	c.Env = append(append(os.Environ(), w.env...), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=")
	out, err := c.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("go test: %v", err)
	}
}
