package service

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc/mgr"

	"renewd/platform/account"
)

// settle sets what kardianos/service cannot: the program and account of a service
// that is there already, its own SID and privileges, and more than one recovery
// action, at exit codes too.
func (s *Service) settle(h *mgr.Service, d definition) error {
	if err := s.program(h, d); err != nil {
		return err
	}
	text, err := windows.UTF16PtrFromString(s.Description)
	if err != nil {
		return err
	}
	keep := func(what string, level uint32, info unsafe.Pointer) error {
		err := windows.ChangeServiceConfig2(h.Handle, level, (*byte)(info))
		if errors.Is(err, windows.ERROR_INVALID_LEVEL) {
			s.Say("this service manager does not know a service's %s: left out", what)
			return nil
		}
		if err != nil {
			return fmt.Errorf("set the service's %s: %w", what, err)
		}
		return nil
	}
	privileges := multi(d.Privileges)
	delayed := windows.SERVICE_DELAYED_AUTO_START_INFO{IsDelayedAutoStartUp: flag(d.DelayedStart)}
	description := windows.SERVICE_DESCRIPTION{Description: text}
	required := struct{ names *uint16 }{&privileges[0]} // SERVICE_REQUIRED_PRIVILEGES_INFO
	own := uint32(windows.SERVICE_SID_TYPE_NONE)
	if d.SIDType == "unrestricted" {
		own = windows.SERVICE_SID_TYPE_UNRESTRICTED
	}
	always := uint32(1) // SERVICE_FAILURE_ACTIONS_FLAG
	if err := errors.Join(
		keep("description", windows.SERVICE_CONFIG_DESCRIPTION, unsafe.Pointer(&description)),
		keep("delayed start", windows.SERVICE_CONFIG_DELAYED_AUTO_START_INFO, unsafe.Pointer(&delayed)),
		keep("own SID", windows.SERVICE_CONFIG_SERVICE_SID_INFO, unsafe.Pointer(&own)),
		keep("privileges", windows.SERVICE_CONFIG_REQUIRED_PRIVILEGES_INFO, unsafe.Pointer(&required)),
		keep("recovery at an exit code", windows.SERVICE_CONFIG_FAILURE_ACTIONS_FLAG, unsafe.Pointer(&always)),
	); err != nil {
		return err
	}
	var actions []mgr.RecoveryAction
	for _, ms := range d.RestartAfter {
		actions = append(actions, mgr.RecoveryAction{Type: mgr.ServiceRestart, Delay: time.Duration(ms) * time.Millisecond})
	}
	if err := h.SetRecoveryActions(actions, d.ForgottenAt); err != nil {
		return fmt.Errorf("set the service's recovery: %w", err)
	}
	return nil
}

// program has the service run this program as its account: another version may
// have installed it elsewhere.
func (s *Service) program(h *mgr.Service, d definition) error {
	line := windows.ComposeCommandLine(append([]string{s.Program}, d.Arguments...))
	if !strings.HasPrefix(line, `"`) {
		line = `"` + s.Program + `"` + strings.TrimPrefix(line, s.Program)
	}
	path, err := windows.UTF16PtrFromString(line)
	if err != nil {
		return err
	}
	user, err := windows.UTF16PtrFromString(d.Account)
	if err != nil {
		return err
	}
	const same = windows.SERVICE_NO_CHANGE
	if err := windows.ChangeServiceConfig(h.Handle, same, same, same, path, nil, nil, nil, user, nil, nil); err != nil {
		return fmt.Errorf("set the service's program and account: %w", err)
	}
	return nil
}

func flag(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// multi is a list of strings as Windows has it: each ends with a zero, and so
// does the list.
func multi(list []string) []uint16 {
	var out []uint16
	for _, s := range list {
		u, err := windows.UTF16FromString(s)
		if err == nil {
			out = append(out, u...)
		}
	}
	return append(out, 0, 0)
}

// directories makes the service's directories with their access lists on them
// from the start. One that is there already must be an administrator's: on
// Windows everybody may make directories beside it, and who owns one may give
// himself any right on it.
func (s *Service) directories(base string, d definition) error {
	owner, err := account.Owner()
	if err != nil {
		return err
	}
	name, ok := strings.CutPrefix(d.Account, `NT SERVICE\`)
	if !ok {
		return fmt.Errorf("make %s: %q is no account of a service", base, d.Account)
	}
	own := account.Service(name)
	for _, dir := range d.Directories {
		path := filepath.Join(base, dir.Path)
		sd, err := windows.SecurityDescriptorFromString("O:" + owner + strings.ReplaceAll(dir.SDDL, "{account}", own))
		if err != nil {
			return fmt.Errorf("make %s: read its access list: %w", path, err)
		}
		made, err := makeDir(path, sd)
		if err == nil && made {
			s.Say("made %s", path)
		}
		if err == nil && !made {
			err = s.adopt(path, sd, owner, own)
		}
		if err != nil {
			return fmt.Errorf("make %s: %w", path, err)
		}
	}
	return nil
}

func makeDir(path string, sd *windows.SECURITY_DESCRIPTOR) (made bool, err error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return false, err
	}
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	err = windows.CreateDirectory(name, sa)
	if errors.Is(err, windows.ERROR_ALREADY_EXISTS) {
		return false, nil
	}
	return err == nil, err
}

// adopt gives a directory that is there already its access list.
func (s *Service) adopt(path string, sd *windows.SECURITY_DESCRIPTOR, owner, own string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return errors.New("it is no directory")
	}
	is, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("ask whose it is: %w", err)
	}
	who, _, err := is.Owner()
	if err != nil {
		return fmt.Errorf("ask whose it is: %w", err)
	}
	switch who.String() {
	case account.System, account.Administrators, owner, own:
	default:
		return fmt.Errorf("it belongs to %s, who could change it: look at what is in it, and remove it", who)
	}
	list, _, err := sd.DACL()
	if err != nil {
		return err
	}
	return windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT,
		windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, list, nil)
}
