//go:build !windows

package account

import "os"

// Machine reports whether this process acts for the machine and not for one
// user: as root.
func Machine() bool { return os.Geteuid() == 0 }
