//go:build !windows

package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"

	"renewd/agent/config"
)

// serviceUser is who the packaged service runs as.
const serviceUser = "renewd"

// checkSinksAsService judges sinks as the service's user where root asks and
// there is one: what root can write says nothing.
func checkSinksAsService(w, ew io.Writer, o checkOptions, c *config.Config, made *built, b *builder) error {
	u, err := user.Lookup(serviceUser)
	if os.Geteuid() != 0 || err != nil {
		return sinkProblems(ew, made, b.paths)
	}
	if d := dropIn(c, b.paths); d != "" {
		fmt.Fprintf(w, "the unit needs a drop-in (systemctl edit renewd):\n\n%s\n", d)
	}
	self, err := os.Executable()
	if err != nil {
		return fail(exitFailed, "", "find this program: %w", err)
	}
	cred, err := credentialOf(u)
	if err != nil {
		return fail(exitFailed, "", "%w", err)
	}
	cmd := asUser(u, cred, self, "check", "--sinks-only", "--config", cmp.Or(o.config, b.paths.Config))
	cmd.Stdout, cmd.Stderr = ew, ew
	cmd.Env = append(cmd.Env, "RUNTIME_DIRECTORY="+b.paths.Runtime, "STATE_DIRECTORY="+b.paths.State)
	if err := cmd.Run(); err != nil {
		return fail(exitFailed, "give the directories to it, or a group that it is a member of", "as user %s not every sink can be written", serviceUser)
	}
	return nil
}

// asUser is a command of another user, whose other processes can look into it: it has
// neither the environment nor the terminal of this one.
func asUser(u *user.User, cred *syscall.Credential, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + u.HomeDir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Setsid: true}
	return cmd
}

func credentialOf(u *user.User) (*syscall.Credential, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, err
	}
	c := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for _, s := range ids {
		if n, err := strconv.ParseUint(s, 10, 32); err == nil {
			c.Groups = append(c.Groups, uint32(n))
		}
	}
	return c, nil
}
