package service

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kardianos/service"
)

// packaged is the program that the definition names: where packages put it.
const packaged = "/usr/bin/"

// Where packages put definitions; ours go to /etc, which wins.
var packageDirs = []string{"/usr/lib/systemd/", "/lib/systemd/", "/usr/local/lib/systemd/"}

// unit is the name that systemctl knows the service by.
func (s *Service) unit() string { return s.Name + ".service" }

// home is the directory of our definition.
func (s *Service) home() (string, error) {
	if !s.User {
		return "/etc/systemd/system", nil
	}
	if d := os.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "systemd/user"), nil
	}
	h, err := os.UserHomeDir()
	return filepath.Join(h, ".config/systemd/user"), err
}

func (s *Service) ours() (unit, dropIn, accounts string, err error) {
	dir, err := s.home()
	unit = filepath.Join(dir, s.unit())
	return unit, filepath.Join(unit+".d", "10-program.conf"), "/etc/sysusers.d/" + s.Name + ".conf", err
}

// ofPackage is the definition that a package brought, if one did.
func (s *Service) ofPackage() string {
	kind := "system"
	if s.User {
		kind = "user"
	}
	for _, dir := range packageDirs {
		path := filepath.Join(dir, kind, s.unit())
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// allowed says whether the caller may change this manager's services.
func (s *Service) allowed() error {
	if service.Platform() != "linux-systemd" {
		return fmt.Errorf("%w: systemd does not run here", ErrNoManager)
	}
	if !s.User && os.Geteuid() != 0 {
		return ErrNeedsRoot
	}
	return nil
}

func (s *Service) install() error {
	if err := s.allowed(); err != nil {
		return err
	}
	if !s.User {
		if err := visible(s.Program); err != nil {
			return err
		}
	}
	unit, dropIn, accounts, err := s.ours()
	if err != nil {
		return err
	}
	changed := false
	if p := s.ofPackage(); p != "" {
		// One definition, not two: ours would hide the package's next one.
		s.Say("%s is the package's; it is used as it is", p)
		if changed, err = s.drop(unit); err != nil {
			return err
		}
	} else {
		if !s.User {
			if err := s.makeAccount(accounts); err != nil {
				return err
			}
		}
		if changed, err = s.put(unit, s.Definition); err != nil {
			return err
		}
	}
	more, err := s.point(dropIn)
	if err != nil {
		return err
	}
	if changed || more {
		if err := s.systemctl("daemon-reload"); err != nil {
			return err
		}
	}
	return s.enable()
}

// makeAccount makes the account that the unit names.
func (s *Service) makeAccount(path string) error {
	if _, err := user.Lookup(s.Name); err == nil {
		return nil
	}
	if _, err := s.put(path, s.Accounts); err != nil {
		return err
	}
	if out, err := exec.Command("systemd-sysusers", path).CombinedOutput(); err != nil {
		return fmt.Errorf("make the account %s: %w: %s", s.Name, err, bytes.TrimSpace(out))
	}
	s.Say("made the system account %s", s.Name)
	return nil
}

// point sees to it that the unit starts this program, wherever it is.
func (s *Service) point(dropIn string) (changed bool, err error) {
	if s.Program == packaged+s.Name {
		return s.drop(dropIn)
	}
	return s.put(dropIn, repoint(s.Definition, packaged+s.Name, s.Program))
}

// repoint is the drop-in that makes a unit run another program: its own Exec
// lines again, with that program's path.
func repoint(unit []byte, from, to string) []byte {
	out := []byte("# Made by `renewd service install`, which ran from another place than a package's.\n[Service]\n")
	cleared := map[string]bool{}
	for line := range strings.Lines(string(unit)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		rest, ok := strings.CutPrefix(value, from+" ")
		if !strings.HasPrefix(key, "Exec") {
			continue
		}
		if !cleared[key] { // the drop-in adds to the list unless the list is emptied
			cleared[key] = true
			out = fmt.Appendf(out, "%s=\n", key)
		}
		if ok {
			value = quote(to) + " " + rest
		}
		out = fmt.Appendf(out, "%s=%s\n", key, value)
	}
	return out
}

// quote writes a path as one word of a command line of a unit (systemd.service(5)).
func quote(path string) string {
	path = strings.NewReplacer("%", "%%", "$", "$$").Replace(path)
	if !strings.ContainsAny(path, " \t\"'\\;") {
		return path
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(path) + `"`
}

// visible refuses a program that the sandbox of the unit hides.
func visible(program string) error {
	for _, dir := range []string{"/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/"} {
		if strings.HasPrefix(program, dir) {
			return fmt.Errorf("the service cannot see %s: install it to /usr/local/bin first", program)
		}
	}
	return nil
}

func (s *Service) enable() error {
	if out, _ := s.command("is-enabled", s.unit()).Output(); strings.TrimSpace(string(out)) == "enabled" {
		s.Say("%s is installed and enabled", s.unit())
		return nil
	}
	if err := s.systemctl("enable", s.unit()); err != nil {
		return err
	}
	s.Say("enabled %s: it starts with the %s", s.unit(), map[bool]string{false: "machine", true: "user's session"}[s.User])
	return nil
}

func (s *Service) uninstall() error {
	if err := s.allowed(); err != nil {
		return err
	}
	st, err := s.state()
	if err != nil {
		return err
	}
	unit, dropIn, accounts, err := s.ours()
	if err != nil {
		return err
	}
	if st.Running {
		if err := s.systemctl("stop", s.unit()); err != nil {
			return err
		}
		s.Say("stopped %s", s.unit())
	}
	if st.Enabled {
		if err := s.systemctl("disable", s.unit()); err != nil {
			return err
		}
		s.Say("disabled %s", s.unit())
	}
	changed := false
	for _, path := range []string{unit, dropIn, accounts} {
		if s.User && path == accounts {
			continue
		}
		gone, err := s.drop(path)
		if err != nil {
			return err
		}
		changed = changed || gone
	}
	_ = os.Remove(filepath.Dir(dropIn)) // where nobody else has a drop-in
	if changed {
		if err := s.systemctl("daemon-reload"); err != nil {
			return err
		}
	}
	_ = s.command("reset-failed", s.unit()).Run() // a failed unit lingers in lists
	if p := s.ofPackage(); p != "" {
		s.Say("%s is the package's: the package manager removes it", p)
	} else if !changed && !st.Running && !st.Enabled {
		s.Say("%s was not installed", s.unit())
	}
	return nil
}

func (s *Service) control(verb string) error {
	if err := s.allowed(); err != nil {
		return err
	}
	st, err := s.state()
	if err != nil {
		return err
	}
	if !st.Installed {
		return ErrNotInstalled
	}
	if verb == "start" && st.Running || verb == "stop" && !st.Running && !strings.Contains(st.Detail, "activating") {
		s.Say("%s %s already", s.unit(), map[bool]string{true: "runs", false: "is stopped"}[st.Running])
		return nil
	}
	k, err := service.New(nil, &service.Config{Name: s.Name, Option: service.KeyValue{"UserService": s.User}})
	if err != nil {
		return err
	}
	act := map[string]func() error{"start": k.Start, "stop": k.Stop, "restart": k.Restart}[verb]
	if err := act(); err != nil {
		return fmt.Errorf("%s %s: %w", verb, s.unit(), err)
	}
	s.Say("%s %s", map[string]string{"start": "started", "stop": "stopped", "restart": "restarted"}[verb], s.unit())
	return nil
}

// state needs no privilege.
func (s *Service) state() (State, error) {
	if service.Platform() != "linux-systemd" {
		return State{}, fmt.Errorf("%w: systemd does not run here", ErrNoManager)
	}
	out, err := s.command("show", s.unit(), "--property=LoadState,ActiveState,SubState,UnitFileState,MainPID,StatusText,Result,NRestarts,FragmentPath,NeedDaemonReload").Output()
	if err != nil {
		if x, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(x.Stderr))
		}
		return State{}, fmt.Errorf("ask systemd: %w", err)
	}
	return parseShow(string(out)), nil
}

// parseShow reads what `systemctl show` prints.
func parseShow(text string) State {
	p := map[string]string{}
	for line := range strings.Lines(text) {
		k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		p[k] = v
	}
	st := State{
		Installed: p["LoadState"] == "loaded", Enabled: strings.HasPrefix(p["UnitFileState"], "enabled"),
		Running: p["ActiveState"] == "active" || p["ActiveState"] == "reloading", Text: p["StatusText"], Path: p["FragmentPath"],
		Detail: p["ActiveState"] + " (" + p["SubState"] + ")",
	}
	st.PID, _ = strconv.Atoi(p["MainPID"])
	if r := p["Result"]; r != "" && r != "success" {
		st.Detail += ", last result: " + r
	}
	if n := p["NRestarts"]; n != "" && n != "0" {
		st.Detail += ", restarted " + n + " times"
	}
	return st
}

func (s *Service) command(args ...string) *exec.Cmd {
	if s.User {
		args = append([]string{"--user"}, args...)
	}
	return exec.Command("systemctl", args...)
}

func (s *Service) systemctl(args ...string) error {
	out, err := s.command(args...).CombinedOutput()
	if err == nil {
		return nil
	}
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no systemctl", ErrNoManager)
	}
	return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
}
