// Package service makes renewd a service of the machine or of one user: of
// systemd, of launchd, or of Windows' service manager.
package service

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Options say what is to be a service.
type Options struct {
	Name        string
	Title       string // for people; Windows shows it
	Description string
	User        bool   // of the caller alone, not of the machine
	Program     string // absolute path
	// Definition is what the manager of this system reads, installed byte for
	// byte: a unit, a plist, or on Windows a JSON of the manager's settings.
	Definition []byte
	// Accounts is the sysusers.d(5) file of the account that a unit names.
	Accounts []byte
	// Data are the directories that Purge removes.
	Data []string
	// Say is told each thing that was done, as a fact.
	Say func(format string, args ...any)
}

// State is how the service is.
type State struct {
	Installed bool
	Enabled   bool // starts with the machine, or with the user's session
	Running   bool
	PID       int
	Text      string // what the service says of itself
	Detail    string // what the manager says of it
	Path      string // of its definition
}

// Errors that tell the caller what to do next.
var (
	ErrNotInstalled = errors.New("the service is not installed")
	ErrNeedsRoot    = errors.New("this needs " + privileged)
	ErrNoManager    = errors.New("this system has no service manager that renewd knows")
)

// Service is one service of this system's manager.
type Service struct{ Options }

// New does nothing yet.
func New(o Options) *Service {
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	return &Service{o}
}

// Install makes the service one that starts by itself. What is there already is
// left as it is; an older definition is replaced.
func (s *Service) Install() error { return s.install() }

// Uninstall stops the service and takes it away, but for its config and state.
func (s *Service) Uninstall() error { return s.uninstall() }

// Purge removes config, state and tokens. Only what carries the service's name
// goes, whatever the caller asks for.
func (s *Service) Purge() error {
	for _, dir := range s.Data {
		if !filepath.IsAbs(dir) || filepath.Base(dir) != s.Name {
			return fmt.Errorf("remove %q: it is not this service's", dir)
		}
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		s.Say("removed %s", dir)
	}
	return nil
}

// Start starts it and returns when it is ready.
func (s *Service) Start() error { return s.control("start") }

// Stop stops it and returns when it has stopped.
func (s *Service) Stop() error { return s.control("stop") }

// Restart stops it where it runs, and starts it.
func (s *Service) Restart() error { return s.control("restart") }

// Status asks the manager.
func (s *Service) Status() (State, error) { return s.state() }
