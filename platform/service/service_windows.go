package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/kardianos/service"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"

	"renewd/platform/account"
)

// definition is packaging/windows/service.json. In an access list {account}
// stands for the service's account.
type definition struct {
	Account      string   `json:"account"`
	Arguments    []string `json:"arguments"`
	DelayedStart bool     `json:"delayed_start"`
	SIDType      string   `json:"sid_type"`
	Privileges   []string `json:"privileges"` // all that the account keeps
	RestartAfter []int    `json:"restart_after_ms"`
	ForgottenAt  uint32   `json:"failures_forgotten_after_s"`
	Dependencies []string `json:"dependencies"`
	Directories  []struct {
		Path string `json:"path"` // below the data directory
		SDDL string `json:"sddl"`
	} `json:"directories"`
}

var errUser = errors.New("services of a single user are not known to Windows: use a task at logon that runs `renewd run`")

// patience for the manager: a stop waits for what was sent, up to 35 s.
const managed = 50 * time.Second

func (s *Service) allowed() error {
	if s.User {
		return errUser
	}
	// To ask for the right shows whether it is given, whoever this is.
	h, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_ALL_ACCESS)
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		return ErrNeedsRoot
	}
	if err != nil {
		return fmt.Errorf("ask the service manager: %w", err)
	}
	return windows.CloseServiceHandle(h)
}

// through is the service as kardianos/service handles it.
func (s *Service) through() (service.Service, definition, error) {
	var d definition
	if err := json.Unmarshal(s.Definition, &d); err != nil {
		return nil, d, fmt.Errorf("read the service's definition: %w", err)
	}
	k, err := service.New(nil, &service.Config{Name: s.Name, DisplayName: s.Title, Description: s.Description, Executable: s.Program,
		Arguments: d.Arguments, UserName: d.Account, Dependencies: d.Dependencies,
		Option: service.KeyValue{"DelayedAutoStart": d.DelayedStart, "OnFailure": "restart"}})
	return k, d, err
}

func (s *Service) install() error {
	if err := s.allowed(); err != nil {
		return err
	}
	k, d, err := s.through()
	if err != nil {
		return err
	}
	st, err := s.state()
	if err != nil {
		return err
	}
	// A program in somebody's downloads would make him the service.
	if err := account.Verify(s.Program); err != nil {
		return fmt.Errorf("make a service of %s: %w: move it to where administrators alone write, as C:\\Program Files", s.Program, err)
	}
	// Before the service: it must find them as they are to be.
	for _, base := range s.Data {
		if err := s.directories(base, d); err != nil {
			return err
		}
	}
	if !st.Installed {
		if err := k.Install(); err != nil {
			return err
		}
		s.Say("installed the service %s as %s, to start with Windows", s.Name, d.Account)
	} else {
		s.Say("the service %s is installed already", s.Name)
	}
	return s.withService(func(h *mgr.Service) error { return s.settle(h, d) })
}

func (s *Service) withService(do func(*mgr.Service) error) error {
	m, err := mgr.Connect()
	if err != nil {
		return err
	}
	defer m.Disconnect()
	h, err := m.OpenService(s.Name)
	if err != nil {
		return err
	}
	defer h.Close()
	return do(h)
}

func (s *Service) uninstall() error {
	if err := s.allowed(); err != nil {
		return err
	}
	k, _, err := s.through()
	if err != nil {
		return err
	}
	st, err := s.state()
	if err != nil {
		return err
	}
	if !st.Installed {
		s.Say("the service %s was not installed", s.Name)
		return nil
	}
	if st.Running { // Windows would only mark it for deletion
		if err := s.stopped(); err != nil {
			return err
		}
		s.Say("stopped %s", s.Name)
	}
	if err := k.Uninstall(); err != nil {
		return err
	}
	s.Say("removed the service %s", s.Name)
	return nil
}

func (s *Service) control(verb string) error {
	if err := s.allowed(); err != nil {
		return err
	}
	k, _, err := s.through()
	if err != nil {
		return err
	}
	st, err := s.state()
	if err != nil {
		return err
	}
	switch {
	case !st.Installed:
		return ErrNotInstalled
	case verb == "start" && st.Running, verb == "stop" && !st.Running:
		s.Say("%s is so already: %s", s.Name, st.Detail)
		return nil
	}
	if verb != "start" && st.Running {
		if err := s.stopped(); err != nil {
			return fmt.Errorf("stop %s: %w", s.Name, err)
		}
		s.Say("stopped %s", s.Name)
	}
	if verb == "stop" {
		return nil
	}
	if err := k.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.Name, err)
	}
	if err := s.withService(func(h *mgr.Service) error { return until(h, svc.Running) }); err != nil {
		return fmt.Errorf("start %s: %w", s.Name, err)
	}
	s.Say("started %s", s.Name)
	return nil
}

// stopped stops the service and waits until it has: kardianos/service gives up
// waiting, or never does, by a setting for the machine's shutdown.
func (s *Service) stopped() error {
	return s.withService(func(h *mgr.Service) error {
		_, err := h.Control(svc.Stop)
		if err != nil && !errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE) {
			return err
		}
		return until(h, svc.Stopped)
	})
}

// until waits for a state of the service; one that stops instead says why.
func until(h *mgr.Service, want svc.State) error {
	for end := time.Now().Add(managed); ; time.Sleep(20 * time.Millisecond) {
		q, err := h.Query()
		switch {
		case err != nil:
			return err
		case q.State == want:
			return nil
		case q.State == svc.Stopped && q.Win32ExitCode == uint32(windows.ERROR_SERVICE_SPECIFIC_ERROR):
			return fmt.Errorf("it ended with exit code %d", q.ServiceSpecificExitCode)
		case q.State == svc.Stopped:
			return fmt.Errorf("it ended: %w", windows.Errno(q.Win32ExitCode))
		case time.Now().After(end):
			return fmt.Errorf("it is still %s after %v", word(q.State), managed)
		}
	}
}

func word(s svc.State) string {
	switch s {
	case svc.Stopped:
		return "stopped"
	case svc.StartPending:
		return "starting"
	case svc.StopPending:
		return "stopping"
	case svc.Running:
		return "running"
	}
	return "paused"
}

// state asks with no more than the right to look.
func (s *Service) state() (State, error) {
	if s.User {
		return State{}, errUser
	}
	h, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return State{}, fmt.Errorf("ask the service manager: %w", err)
	}
	m := &mgr.Mgr{Handle: h}
	defer m.Disconnect()
	name, err := windows.UTF16PtrFromString(s.Name)
	if err != nil {
		return State{}, err
	}
	sh, err := windows.OpenService(m.Handle, name, windows.SERVICE_QUERY_STATUS)
	if errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
		return State{}, nil
	}
	if err != nil {
		return State{}, fmt.Errorf("ask the service manager: %w", err)
	}
	one := &mgr.Service{Name: s.Name, Handle: sh}
	defer one.Close()
	q, err := one.Query()
	if err != nil {
		return State{}, fmt.Errorf("ask the service manager: %w", err)
	}
	return State{Installed: true, Enabled: true, Running: q.State == svc.Running || q.State == svc.StartPending,
		PID: int(q.ProcessId), Detail: word(q.State)}, nil
}
