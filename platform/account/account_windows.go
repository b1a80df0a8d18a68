package account

import (
	"fmt"
	"strings"

	"golang.org/x/sys/windows"
)

// Own is the SID of the account that this process runs as.
func Own() (string, error) {
	u, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return "", fmt.Errorf("read this process's account: %w", err)
	}
	return u.User.Sid.String(), nil
}

// Owner is the SID that what this process makes should belong to: its account, or
// the administrators where it is one of them with raised rights.
func Owner() (string, error) {
	me, err := Own()
	if err == nil && me != System && !isService(me) && windows.GetCurrentProcessToken().IsElevated() {
		return Administrators, nil
	}
	return me, err
}

func isService(sid string) bool { return strings.HasPrefix(sid, "S-1-5-80-") }

// Machine reports whether this process acts for the machine and not for one
// user: as SYSTEM, as a service's own account, or raised to administrator.
func Machine() bool {
	me, err := Own()
	return err == nil && (me == System || isService(me) || windows.GetCurrentProcessToken().IsElevated())
}

// SID finds an account or group by its name, or by the SID's text itself.
func SID(name string) (string, error) {
	if sid, err := windows.StringToSid(name); err == nil {
		return sid.String(), nil
	}
	if rest, ok := strings.CutPrefix(strings.ToUpper(name), `NT SERVICE\`); ok {
		return Service(rest), nil
	}
	sid, _, _, err := windows.LookupSID("", name)
	if err != nil {
		return "", fmt.Errorf("find the account %q: %w", name, err)
	}
	return sid.String(), nil
}
