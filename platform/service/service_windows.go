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
)

// answersManager: a service that ends is one that stopped, unless its process
// dies without saying so.
const answersManager = true

// definition is packaging/windows/service.json.
type definition struct {
	Account      string   `json:"account"`
	Arguments    []string `json:"arguments"`
	DelayedStart bool     `json:"delayed_start"`
	SIDType      string   `json:"sid_type"`
	RestartAfter []int    `json:"restart_after_ms"`
	ForgottenAt  uint32   `json:"failures_forgotten_after_s"`
	Dependencies []string `json:"dependencies"`
}

var errUser = errors.New("Windows has no services of a single user: use a task at logon that runs `renewd run`")

func (s *Service) allowed() error {
	if s.User {
		return errUser
	}
	if !windows.GetCurrentProcessToken().IsElevated() {
		return ErrNeedsRoot
	}
	return nil
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
	if !st.Installed {
		if err := k.Install(); err != nil {
			return err
		}
		s.Say("installed the service %s as %s", s.Name, d.Account)
	} else {
		s.Say("the service %s is installed already", s.Name)
	}
	return s.withService(func(h *mgr.Service) error { return s.settle(h, d) })
}

// settle sets what kardianos/service cannot: more than one recovery action, those
// at an exit code, and an own SID.
func (s *Service) settle(h *mgr.Service, d definition) error {
	c, err := h.Config()
	if err != nil {
		return fmt.Errorf("read the service's settings: %w", err)
	}
	c.DisplayName, c.Description, c.DelayedAutoStart = s.Title, s.Description, d.DelayedStart
	if d.SIDType == "unrestricted" {
		c.SidType = windows.SERVICE_SID_TYPE_UNRESTRICTED
	}
	if err := h.UpdateConfig(c); err != nil {
		return fmt.Errorf("change the service's settings: %w", err)
	}
	var actions []mgr.RecoveryAction
	for _, ms := range d.RestartAfter {
		actions = append(actions, mgr.RecoveryAction{Type: mgr.ServiceRestart, Delay: time.Duration(ms) * time.Millisecond})
	}
	if err := h.SetRecoveryActions(actions, d.ForgottenAt); err != nil {
		return fmt.Errorf("set the service's recovery: %w", err)
	}
	if err := h.SetRecoveryActionsOnNonCrashFailures(true); err != nil {
		return fmt.Errorf("set the service's recovery at an exit code: %w", err)
	}
	return nil
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
		if err := k.Stop(); err != nil {
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
	case verb == "restart" && !st.Running:
		verb = "start"
	}
	if err := map[string]func() error{"start": k.Start, "stop": k.Stop, "restart": k.Restart}[verb](); err != nil {
		return fmt.Errorf("%s %s: %w", verb, s.Name, err)
	}
	s.Say("%s: done (%s)", s.Name, verb)
	return nil
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
	words := map[svc.State]string{svc.Stopped: "stopped", svc.StartPending: "starting", svc.StopPending: "stopping", svc.Running: "running"}
	return State{Installed: true, Enabled: true, Running: q.State == svc.Running || q.State == svc.StartPending,
		PID: int(q.ProcessId), Detail: words[q.State]}, nil
}
