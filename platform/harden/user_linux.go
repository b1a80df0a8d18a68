package harden

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// AsUser calls f with this whole process as another user, in the groups that c
// names and no others, and is root again after it: what root alone may do is
// refused meanwhile. Where the process may not change its user, f is not called.
func AsUser(c *syscall.Credential, f func()) (err error) {
	groups, err := syscall.Getgroups()
	if err != nil {
		return fmt.Errorf("read the groups of the process: %w", err)
	}
	uid, gid := os.Geteuid(), os.Getegid()
	defer func() {
		// In this order: only root may do the last two.
		back := errors.Join(syscall.Setresuid(-1, uid, -1), syscall.Setresgid(-1, gid, -1), syscall.Setgroups(groups))
		if err == nil && back != nil {
			err = fmt.Errorf("become uid %d again: %w", uid, back)
		}
	}()
	if err := change(c, func(id int) (r, e, s int) { return -1, id, -1 }); err != nil {
		return err
	}
	f()
	return nil
}

// BecomeUser makes this whole process another user's for good, with the groups
// that c names and no others. An error leaves it neither the one nor the other:
// the process must end.
func BecomeUser(c *syscall.Credential) error {
	if err := change(c, func(id int) (r, e, s int) { return id, id, id }); err != nil {
		return err
	}
	// The kernel takes all capabilities with the last of the three ids, unless
	// someone asked it not to (SECBIT_NO_SETUID_FIXUP, capabilities(7)).
	if syscall.Setresuid(-1, 0, -1) == nil {
		return errors.New("root can be had again: the process keeps its capabilities")
	}
	return nil
}

// change sets groups, group and user; ids says which of the real, the effective
// and the saved id.
func change(c *syscall.Credential, ids func(id int) (r, e, s int)) error {
	groups := make([]int, len(c.Groups))
	for i, g := range c.Groups {
		groups[i] = int(g)
	}
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("change the groups of the process: %w", err)
	}
	if err := syscall.Setresgid(ids(int(c.Gid))); err != nil {
		return fmt.Errorf("change the group of the process: %w", err)
	}
	if err := syscall.Setresuid(ids(int(c.Uid))); err != nil {
		return fmt.Errorf("change the user of the process: %w", err)
	}
	return nil
}
