package keyring

import (
	"errors"
	"os"
	"path/filepath"
)

// reachable says why there is no session bus to ask. The D-Bus library would
// start one of its own, which nobody would ever unlock a keyring on.
func reachable() error {
	if os.Getenv("DBUS_SESSION_BUS_ADDRESS") != "" {
		return nil
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		if _, err := os.Stat(filepath.Join(dir, "bus")); err == nil {
			return nil
		}
	}
	return errors.New("there is no session bus: a keyring belongs to a user's session, so it is for a user's own agent; a system service takes file or credential")
}
