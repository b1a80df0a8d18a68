package main

import (
	"fmt"

	"renewd/agent"
	"renewd/platform/account"
)

// allowUser adds an account to those who may read: DOMAIN\name, name, NT
// SERVICE\name or the text of a SID.
func allowUser(to *agent.Access, name string) error {
	sid, err := account.SID(name)
	if err != nil {
		return fmt.Errorf("there is no account %q", name)
	}
	to.SIDs = append(to.SIDs, sid)
	return nil
}

// allowGroup is the same: a caller has its account's SID and those of its groups.
func allowGroup(to *agent.Access, name string) error { return allowUser(to, name) }

// groupExists is asked for the group whose members manage the machine's agent on
// other systems; here administrators do.
func groupExists(string) bool { return false }
