//go:build !windows

package main

import (
	"fmt"
	"os/user"
	"strconv"

	"renewd/agent"
)

// allowUser and allowGroup add an account to those who may read.
func allowUser(to *agent.Access, name string) error {
	id, err := userID(name)
	if err == nil {
		to.UIDs = append(to.UIDs, id)
	}
	return err
}

func allowGroup(to *agent.Access, name string) error {
	id, err := groupID(name)
	if err == nil {
		to.GIDs = append(to.GIDs, id)
	}
	return err
}

// userID resolves an account's name or number.
func userID(name string) (uint32, error) {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n), nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, fmt.Errorf("there is no user %q", name)
	}
	n, err := strconv.ParseUint(u.Uid, 10, 32)
	return uint32(n), err
}

func groupID(name string) (uint32, error) {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n), nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("there is no group %q", name)
	}
	n, err := strconv.ParseUint(g.Gid, 10, 32)
	return uint32(n), err
}

func groupExists(name string) bool {
	_, err := groupID(name)
	return err == nil
}
