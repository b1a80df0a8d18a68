//go:build !darwin && !windows

package paths

import (
	"os"
	"path/filepath"
	"strconv"
)

// System gives the paths of the machine's own agent.
func System() Set {
	return Set{
		Config:      "/etc/renewd/renewd.yaml",
		State:       "/var/lib/renewd",
		Runtime:     "/run/renewd",
		Socket:      "/run/renewd/renewd.sock",
		RuntimeMode: 0o755,
	}
}

// User gives the paths of the caller's own agent, by the XDG Base Directory
// Specification.
func User() (Set, error) {
	config, err := xdg("XDG_CONFIG_HOME", ".config")
	if err != nil {
		return Set{}, err
	}
	state, err := xdg("XDG_STATE_HOME", ".local/state")
	if err != nil {
		return Set{}, err
	}
	state = filepath.Join(state, "renewd")
	run := runtimeDir(state)
	return Set{
		Config:      filepath.Join(config, "renewd", "renewd.yaml"),
		State:       state,
		Runtime:     run,
		Socket:      filepath.Join(run, "renewd.sock"),
		RuntimeMode: 0o700,
	}, nil
}

func xdg(name, below string) (string, error) {
	if p, ok := absolute(name); ok {
		return p, nil
	}
	h, err := home()
	if err != nil {
		return "", err
	}
	return filepath.Join(h, below), nil
}

// runtimeDir falls back to where logind puts it, since cron and su do not set the
// variable, and without logind to a directory of the user's own.
func runtimeDir(state string) string {
	if p, ok := absolute("XDG_RUNTIME_DIR"); ok {
		return filepath.Join(p, "renewd")
	}
	logind := "/run/user/" + strconv.Itoa(os.Getuid())
	if fi, err := os.Stat(logind); err == nil && fi.IsDir() {
		return filepath.Join(logind, "renewd")
	}
	return filepath.Join(state, "run")
}
