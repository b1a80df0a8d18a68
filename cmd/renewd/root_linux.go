package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"syscall"

	"renewd/agent"
	"renewd/agent/config"
	"renewd/platform/atomicfile"
	"renewd/platform/harden"
	"renewd/platform/paths"
)

// giveUpRoot makes an agent that root starts the service's user, where this machine
// has one and that user can do all that the config asks for. nil: nothing was there
// to decide.
func giveUpRoot(set paths.Set, once bool) (*privilege, error) {
	u, cred, err := serviceAccount()
	if u == nil || err != nil {
		return nil, err
	}
	var wants *need
	var own paths.Set
	if err := harden.AsUser(cred, func() { wants, own = needsOf(set) }); err != nil {
		if os.Geteuid() != 0 {
			return nil, fail(exitFailed, "", "%w", err)
		}
		wants = &need{"the process may not become " + serviceUser + ": " + err.Error(), "start it with CAP_SETUID and CAP_SETGID, or as that user"}
	}
	if wants != nil {
		return &privilege{need: *wants, blocked: servedAs(cred, own, wants, once)}, nil
	}
	// Where only root may make directories, they are made for it; not where who may
	// change the config would choose the place.
	if own.State == set.State || trusted(set.Config) == nil && exists(set.Config) {
		err = makeFor(cred, own.State, 0o700)
	}
	if err = errors.Join(err, makeFor(cred, own.Runtime, own.RuntimeMode)); err != nil {
		return nil, fail(exitFailed, "", "make directories for %s: %w", serviceUser, err)
	}
	return become(u, cred)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// serviceAccount is the service's user, where the process is root's and there is one.
func serviceAccount() (*user.User, *syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil, nil
	}
	u, err := user.Lookup(serviceUser)
	if err != nil || u.Uid == "0" {
		return nil, nil, nil
	}
	cred, err := credentialOf(u)
	if err != nil {
		return nil, nil, fail(exitFailed, "", "read the account %s: %w", serviceUser, err)
	}
	return u, cred, nil
}

// become makes the process the service's user's for good.
func become(u *user.User, cred *syscall.Credential) (*privilege, error) {
	if err := harden.BecomeUser(cred); err != nil {
		return nil, fail(exitFailed, "run it as "+u.Username, "give up root: %w", err)
	}
	for name, value := range map[string]string{"HOME": u.HomeDir, "USER": u.Username, "LOGNAME": u.Username} {
		_ = os.Setenv(name, value) // fails for impossible names alone
	}
	return &privilege{user: serviceUser}, nil
}

// becomeOwner makes root the service's user where the state is that user's, who could
// not use what root makes in it, and could have root follow links in it.
func becomeOwner(state string) (*privilege, error) {
	u, cred, err := serviceAccount()
	if u == nil || err != nil || !belongs(state, cred.Uid) {
		return nil, err
	}
	return become(u, cred)
}

func belongs(dir string, uid uint32) bool {
	fi, err := os.Stat(dir)
	return err == nil && fi.Sys().(*syscall.Stat_t).Uid == uid
}

// servedAs refuses root a state or a runtime directory that is the service's: root
// would leave there what the service cannot use, and would follow its links.
func servedAs(cred *syscall.Credential, set paths.Set, wants *need, once bool) error {
	dir := set.Runtime
	if once || filepath.Dir(set.Socket) != dir || !belongs(dir, cred.Uid) {
		if dir = set.State; !belongs(dir, cred.Uid) {
			return nil
		}
	}
	return fail(exitFailed, wants.hint+"; or, where the service is not to run, chown -R root: "+set.Runtime+" "+set.State,
		"this config needs root, and %s belongs to %s: %s", dir, serviceUser, wants.what)
}

// makeFor makes dir, with those above it that are missing too, for the user. Where
// another could put something in their way, the user is left to make them.
func makeFor(cred *syscall.Credential, dir string, mode fs.FileMode) error {
	var missing []string
	at := dir
	for ; ; at = filepath.Dir(at) {
		if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		missing = append(missing, at)
	}
	if len(missing) == 0 || atomicfile.VerifyDir(at) != nil {
		return nil
	}
	for _, at := range slices.Backward(missing) {
		if err := os.Mkdir(at, mode); err != nil { // not what is suddenly there
			return err
		}
		if err := os.Chmod(at, mode); err != nil { // whatever the umask
			return err
		}
	}
	for _, at := range missing { // the innermost first: those above it are root's still
		if err := os.Lchown(at, int(cred.Uid), int(cred.Gid)); err != nil {
			return err
		}
	}
	return nil
}

// needsOf is what the config at set asks of root that this process's user cannot
// do, nil for nothing, and the paths with what the config says of them.
func needsOf(set paths.Set) (*need, paths.Set) {
	c, made, problems, b, err := loadFrom(set, checkOptions{config: set.Config})
	switch {
	case errors.Is(err, config.ErrNoConfig):
		c, made, b = &config.Config{}, &built{}, &builder{paths: set}
	case err != nil:
		return &need{fmt.Sprintf("%s cannot read the config: %v", serviceUser, err), "let it, by its group: chgrp " + serviceUser + " " + set.Config}, set
	}
	for _, p := range problems {
		if !p.Warn {
			return &need{fmt.Sprintf("%s cannot use the config: %s", serviceUser, p.Msg), "see: setpriv --reuid " + serviceUser + " --regid " + serviceUser + " --init-groups renewd check --config " + set.Config}, b.paths
		}
	}
	return rootNeed(c, made, b.paths), b.paths
}

// rootNeed is the first thing that this process's user cannot do of what the config
// asks for, and that root can. What fails for both is no need.
func rootNeed(c *config.Config, made *built, set paths.Set) *need {
	groups := myGroups()
	foreign := func(group string) bool {
		id, err := groupID(group)
		return group != "" && err == nil && !slices.Contains(groups, int(id))
	}
	if made.runs != "" {
		return &need{made.runs + " runs a program, which may need root", "where it does not: renewd service start"}
	}
	if made.keyring != "" {
		return &need{made.keyring + " is kept in the keyring of who started the agent", "keep it in a file or a credential"}
	}
	if path, ok := firstSink(c, func(s *config.Sink) bool { return s.Owner != "" && s.Owner != serviceUser }); ok {
		return &need{path + ".owner: only root may give a file away", "leave owner out and let a group read it"}
	}
	if path, ok := firstSink(c, func(s *config.Sink) bool { return foreign(s.Group) }); ok {
		return &need{path + ".group: " + serviceUser + " is no member", "run: usermod -aG GROUP " + serviceUser}
	}
	if foreign(c.Socket.Group) {
		return &need{"socket.group: " + serviceUser + " is no member of " + c.Socket.Group, "run: usermod -aG " + c.Socket.Group + " " + serviceUser}
	}
	if path := unreadable(readFiles(c, made)); path != "" {
		return &need{serviceUser + " cannot read " + path, "let it, by its group: chgrp " + serviceUser + " " + path + " && chmod g+r " + path}
	}
	for _, dir := range []string{set.State, set.Runtime} {
		if at := notMine(dir); at != "" {
			return &need{at + " does not belong to " + serviceUser, "stop the agent and run: chown -R " + serviceUser + ": " + dir}
		}
	}
	return reachNeed(c, made, set)
}

// reachNeed looks at places that this process's user has to write to or listen on.
func reachNeed(c *config.Config, made *built, set paths.Set) *need {
	if dir := filepath.Dir(set.Socket); dir != set.Runtime && !writable(dir, set.Socket+".lock") {
		return &need{serviceUser + " cannot make the socket in " + dir, "leave socket.path out, or choose a directory of its own"}
	}
	var first *need
	sinkErrors(made, set, func(s *agent.Spec, sk agent.Sink, err error) {
		if first == nil && errors.Is(err, fs.ErrPermission) {
			first = &need{fmt.Sprintf("%s: %s: %v", s.Name, sk.ID(), err), "give the directory to it, or choose another"}
		}
	})
	if first != nil || c.Metrics.Listen == "" {
		return first
	}
	l, err := net.Listen("tcp", c.Metrics.Listen)
	if errors.Is(err, fs.ErrPermission) {
		return &need{"metrics.listen: only root may listen on " + c.Metrics.Listen, "choose a port above 1023"}
	}
	if err == nil {
		_ = l.Close()
	}
	return nil
}

// myGroups are the groups that this process may give its files to.
func myGroups() []int {
	groups, _ := os.Getgroups() // fails for no process of our own
	return append(groups, os.Getegid())
}

// notMine is the directory, or a file or directory in it, that is another's; ""
// where dir is this process's user's own, or not there.
func notMine(dir string) string {
	fi, err := os.Stat(dir)
	if err != nil || fi.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
		if errors.Is(err, fs.ErrNotExist) {
			return ""
		}
		return dir
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return dir
	}
	for _, e := range entries {
		fi, err := e.Info()
		if err == nil && (fi.Mode().IsRegular() || fi.IsDir()) && fi.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
			return filepath.Join(dir, e.Name())
		}
	}
	return ""
}

// writable reports whether nothing forbids this process's user to make files in
// dir and to write to file, which may be absent.
func writable(dir, file string) bool {
	made, err := os.MkdirTemp(dir, ".renewd-check-")
	if err == nil {
		_ = os.Remove(made)
		var f *os.File
		if f, err = os.OpenFile(file, os.O_RDWR, 0); err == nil {
			_ = f.Close()
		}
	}
	return !errors.Is(err, fs.ErrPermission)
}

// beyondUser warns of what a reloaded config asks for and only root can do, which
// this process has been and is no more.
func (d *daemon) beyondUser(c *config.Config, b *built) config.Problems {
	if d.privilege == nil || d.privilege.user == "" {
		return nil
	}
	n := rootNeed(c, b, withConfig(d.paths, c))
	if n == nil {
		return nil
	}
	return config.Problems{{File: d.configPath, Warn: true, Msg: "this needs root, which the running agent has given up: " + n.what,
		Hint: n.hint}}
}

// readFiles are the files and directories that an agent reads under c.
func readFiles(c *config.Config, b *built) (out []string) {
	out = append(append(out, c.Files...), c.Dirs...)
	tls := tlsFiles(c.Defaults.TLS)
	for _, name := range sortedKeys(c.Tokens) {
		tls = append(tls, tlsFiles(ownTLS(c.Tokens[name]))...)
	}
	for _, f := range tls {
		if f != "" {
			out = append(out, f)
		}
	}
	for _, path := range sortedKeys(b.watched) {
		for _, w := range b.watched[path] {
			if w.kind != watchSink {
				out = append(out, path)
			}
		}
	}
	if c.State.Key != nil && c.State.Key.File != "" {
		out = append(out, string(c.State.Key.File))
	}
	for _, s := range b.specs {
		if dir := os.Getenv("CREDENTIALS_DIRECTORY"); s.SecretAtStart && dir != "" {
			return append(out, dir)
		}
	}
	return out
}

// unreadable is the first of the files that this process may not read.
func unreadable(files []string) string {
	for _, path := range uniq(files) {
		fi, err := os.Stat(path)
		if err == nil && (fi.Mode().IsRegular() || fi.IsDir()) { // a pipe would miss its reader
			var f *os.File
			if f, err = os.Open(path); err == nil {
				_ = f.Close()
			}
		}
		if errors.Is(err, fs.ErrPermission) {
			return path
		}
	}
	return ""
}
