package harden

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

const (
	mayRead  landlock.AccessFSSet = ll.AccessFSReadFile | ll.AccessFSReadDir
	mayWrite landlock.AccessFSSet = mayRead | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSMakeReg | ll.AccessFSMakeDir |
		ll.AccessFSMakeSock | ll.AccessFSRemoveFile | ll.AccessFSRemoveDir
)

// Confine gives up all files but those in dirs and those that names and
// certificates are looked up in, and the running of programs, for the rest of this
// process's life and of what it starts: not even another program in its place gets
// them back (landlock(7)). What is open stays open. An error means that nothing
// was given up.
func Confine(dirs Dirs) (*Confinement, error) {
	abi, err := ll.LandlockGetABIVersion()
	if err != nil {
		return &Confinement{}, fmt.Errorf("ask the kernel for Landlock: %w", err)
	}
	c := &Confinement{abi: abi, read: map[inode]bool{}, write: map[inode]bool{}}
	// The ABI that a rule was written for is the one that is judged by: best effort.
	err = landlock.V5.BestEffort().RestrictPaths(
		landlock.PathAccess(mayRead, c.note(c.read, append(system(), dirs.Read...))...).IgnoreIfMissing(),
		landlock.PathAccess(mayWrite, c.note(c.write, dirs.Write)...).IgnoreIfMissing(),
	)
	if err != nil {
		return &Confinement{}, fmt.Errorf("confine the process: %w", err)
	}
	return c, nil
}

// note remembers which directories the paths are now, and gives those that there
// are.
func (c *Confinement) note(in map[inode]bool, paths []string) (out []string) {
	slices.Sort(paths)
	for _, p := range slices.Compact(paths) {
		if id, ok := inodeOf(p); ok {
			in[id] = true
			out = append(out, p)
		}
	}
	return out
}

func inodeOf(path string) (inode, bool) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return inode{}, false
	}
	return inode{uint64(st.Dev), st.Ino}, true
}

// Lacks names the directories that this process cannot use any more as dirs says:
// those that it gave up, and those that were replaced or mounted over since.
func (c *Confinement) Lacks(dirs Dirs) (out []string) {
	if !c.On() {
		return nil
	}
	for _, p := range dirs.Write {
		if !covered(p, c.write) {
			out = append(out, p)
		}
	}
	for _, p := range dirs.Read {
		if !covered(p, c.read, c.write) {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// covered walks up as the kernel does.
func covered(path string, kept ...map[inode]bool) bool {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	for {
		id, ok := inodeOf(path)
		if ok && slices.ContainsFunc(kept, func(m map[inode]bool) bool { return m[id] }) {
			return true
		}
		up := filepath.Dir(path)
		if up == path {
			return false
		}
		path = up
	}
}

// String says how the process is confined.
func (c *Confinement) String() string {
	if !c.On() {
		return "not confined"
	}
	return fmt.Sprintf("confined by Landlock (ABI %d) to the directories that the config names", c.abi)
}

// system are the directories in which names, certificates and the local time are
// looked up. What they hold is replaced by renames, so none is named alone.
func system() []string {
	dirs := []string{"/etc", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/usr/share/pki", "/var/lib/ca-certificates",
		"/usr/share/zoneinfo", "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/proc/self", "/proc/sys/kernel/random", "/sys/kernel/mm/transparent_hugepage"}
	for _, f := range []string{"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/localtime", "/etc/ssl/certs/ca-certificates.crt",
		"/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem", os.Getenv("SSL_CERT_FILE")} {
		if real, err := filepath.EvalSymlinks(f); err == nil && f != "" {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	return append(dirs, filepath.SplitList(os.Getenv("SSL_CERT_DIR"))...)
}
