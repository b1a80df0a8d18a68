package paths

import "path/filepath"

// System gives the paths of the machine's own agent.
func System() Set {
	const dir = "/Library/Application Support/renewd"
	return Set{
		Config:      dir + "/renewd.yaml",
		State:       dir + "/state",
		Runtime:     "/var/run/renewd",
		Socket:      "/var/run/renewd/renewd.sock",
		RuntimeMode: 0o755,
	}
}

// User gives the paths of the caller's own agent: those of the XDG Base
// Directory Specification where its variables are set, else the Library.
func User() (Set, error) {
	h, err := home()
	if err != nil {
		return Set{}, err
	}
	lib := filepath.Join(h, "Library", "Application Support", "renewd")
	config, state := lib, filepath.Join(lib, "state")
	run := filepath.Join(lib, "run")
	if p, ok := absolute("XDG_CONFIG_HOME"); ok {
		config = filepath.Join(p, "renewd")
	}
	if p, ok := absolute("XDG_STATE_HOME"); ok {
		state = filepath.Join(p, "renewd")
	}
	if p, ok := absolute("XDG_RUNTIME_DIR"); ok {
		run = filepath.Join(p, "renewd")
	}
	return Set{
		Config:      filepath.Join(config, "renewd.yaml"),
		State:       state,
		Runtime:     run,
		Socket:      filepath.Join(run, "renewd.sock"),
		RuntimeMode: 0o700,
	}, nil
}
