package service

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/kardianos/service"
)

// packaged is the program that the definition names.
const packaged = "/usr/local/bin/"

func (s *Service) plist() (string, error) {
	if !s.User {
		return "/Library/LaunchDaemons/" + s.Name + ".plist", nil
	}
	h, err := os.UserHomeDir()
	return filepath.Join(h, "Library/LaunchAgents", s.Name+".plist"), err
}

func (s *Service) allowed() error {
	if !s.User && os.Geteuid() != 0 {
		return ErrNeedsRoot
	}
	return nil
}

// target is how launchctl names the service (launchctl(1), service-target).
func (s *Service) target() string {
	if s.User {
		return "gui/" + strconv.Itoa(os.Getuid()) + "/" + s.Name
	}
	return "system/" + s.Name
}

func (s *Service) install() error {
	if err := s.allowed(); err != nil {
		return err
	}
	path, err := s.plist()
	if err != nil {
		return err
	}
	text := s.Definition
	if s.Program != packaged+s.Name {
		var escaped bytes.Buffer
		for _, r := range s.Program {
			switch r {
			case '&':
				escaped.WriteString("&amp;")
			case '<':
				escaped.WriteString("&lt;")
			case '>':
				escaped.WriteString("&gt;")
			default:
				escaped.WriteRune(r)
			}
		}
		text = bytes.Replace(text, []byte("<string>"+packaged+s.Name+"</string>"), []byte("<string>"+escaped.String()+"</string>"), 1)
	}
	changed, err := s.put(path, text)
	if err != nil {
		return err
	}
	if err := launchctl("enable", s.target()); err != nil {
		return err
	}
	if !changed {
		s.Say("%s is installed", path)
	}
	return nil
}

func (s *Service) uninstall() error {
	if err := s.allowed(); err != nil {
		return err
	}
	path, err := s.plist()
	if err != nil {
		return err
	}
	if launchctl("bootout", s.target()) == nil {
		s.Say("stopped %s", s.Name)
	}
	gone, err := s.drop(path)
	if err == nil && !gone {
		s.Say("%s was not installed", s.Name)
	}
	return err
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
	if verb == "start" && st.Running || verb == "stop" && !st.Running {
		s.Say("%s is so already", s.Name)
		return nil
	}
	k, err := service.New(nil, &service.Config{Name: s.Name, Option: service.KeyValue{"UserService": s.User}})
	if err != nil {
		return err
	}
	if verb == "restart" && !st.Running {
		verb = "start"
	}
	if err := map[string]func() error{"start": k.Start, "stop": k.Stop, "restart": k.Restart}[verb](); err != nil {
		return fmt.Errorf("%s %s: %w", verb, s.Name, err)
	}
	s.Say("%s: done (%s)", s.Name, verb)
	return nil
}

var pidLine = regexp.MustCompile(`(?m)^\s*pid = ([0-9]+)`)

func (s *Service) state() (State, error) {
	path, err := s.plist()
	if err != nil {
		return State{}, err
	}
	st := State{Path: path, Detail: "not loaded"}
	if _, err := os.Stat(path); err == nil {
		st.Installed, st.Enabled = true, true
	} else if !errors.Is(err, fs.ErrNotExist) {
		return st, err
	}
	out, err := exec.Command("launchctl", "print", s.target()).Output()
	if err != nil {
		return st, nil // launchd does not know it
	}
	st.Detail = "loaded"
	if m := pidLine.FindSubmatch(out); m != nil {
		st.Running, st.Detail = true, "running"
		st.PID, _ = strconv.Atoi(string(m[1]))
	}
	return st, nil
}

func launchctl(args ...string) error {
	out, err := exec.Command("launchctl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("launchctl %s: %w: %s", args[0], err, bytes.TrimSpace(out))
	}
	return nil
}
