//go:build unix

package child

import (
	"os/exec"
	"syscall"
)

var inherited = [...]string{"PATH", "HOME", "LANG"}

// group is a process group of the program's own.
type group struct{ pid int }

func start(cmd *exec.Cmd) (group, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Start(); err != nil {
		return group{}, err
	}
	return group{cmd.Process.Pid}, nil
}

func (g group) kill() { _ = syscall.Kill(-g.pid, syscall.SIGKILL) }

func (group) close() {}
