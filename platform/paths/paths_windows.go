package paths

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/windows"
)

const pipe = `\\.\pipe\renewd`

// System gives the paths of the machine's own agent.
func System() Set {
	data, ok := absolute("ProgramData")
	if !ok {
		data = `C:\ProgramData`
	}
	dir := filepath.Join(data, "renewd")
	return Set{
		Config:  filepath.Join(dir, "renewd.yaml"),
		State:   filepath.Join(dir, "state"),
		Runtime: filepath.Join(dir, "run"),
		Socket:  pipe,
	}
}

// User gives the paths of the caller's own agent. Its pipe carries the SID, since
// pipe names are one flat list for the whole machine.
func User() (Set, error) {
	sid, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return Set{}, fmt.Errorf("read the caller's account: %w", err)
	}
	roaming, ok := absolute("AppData")
	local, ok2 := absolute("LocalAppData")
	if !ok || !ok2 {
		h, err := home()
		if err != nil {
			return Set{}, err
		}
		roaming, local = filepath.Join(h, "AppData", "Roaming"), filepath.Join(h, "AppData", "Local")
	}
	dir := filepath.Join(local, "renewd")
	return Set{
		Config:  filepath.Join(roaming, "renewd", "renewd.yaml"),
		State:   filepath.Join(dir, "state"),
		Runtime: filepath.Join(dir, "run"),
		Socket:  pipe + "-" + sid.User.Sid.String(),
	}, nil
}
