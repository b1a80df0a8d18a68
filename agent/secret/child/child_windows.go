package child

import (
	"os/exec"
	"syscall"
)

// Windows programs do not run without SystemRoot.
var inherited = [...]string{"PATH", "HOME", "LANG", "USERPROFILE", "SystemRoot", "PATHEXT", "TEMP", "TMP"}

var (
	kernel32           = syscall.NewLazyDLL("kernel32.dll")
	createJobObject    = kernel32.NewProc("CreateJobObjectW")
	assignProcess      = kernel32.NewProc("AssignProcessToJobObject")
	terminateJobObject = kernel32.NewProc("TerminateJobObject")
)

const (
	createNewProcessGroup = 0x00000200
	createNoWindow        = 0x08000000
	processSetQuota       = 0x0100 // PROCESS_SET_QUOTA, needed to join a job
	processTerminate      = 0x0001
)

// group is a job object: everything that the program starts belongs to it.
// Something started before the program joined it would escape; the span is a
// few microseconds.
type group struct{ job syscall.Handle }

func start(cmd *exec.Cmd) (group, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: createNewProcessGroup | createNoWindow}
	var g group
	cmd.Cancel = func() error {
		g.kill()
		return cmd.Process.Kill()
	}
	if err := createJobObject.Find(); err == nil {
		h, _, _ := createJobObject.Call(0, 0)
		g.job = syscall.Handle(h)
	}
	if err := cmd.Start(); err != nil {
		g.close()
		return group{}, err
	}
	if g.job != 0 {
		if p, err := syscall.OpenProcess(processSetQuota|processTerminate, false, uint32(cmd.Process.Pid)); err == nil {
			_, _, _ = assignProcess.Call(uintptr(g.job), uintptr(p))
			_ = syscall.CloseHandle(p)
		}
	}
	return g, nil
}

func (g group) kill() {
	if g.job != 0 {
		_, _, _ = terminateJobObject.Call(uintptr(g.job), 1)
	}
}

func (g group) close() {
	if g.job != 0 {
		_ = syscall.CloseHandle(g.job)
	}
}
