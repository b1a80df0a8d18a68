package service

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const someUnit = `[Unit]
Description=x

[Service]
Type=notify
ExecStart=/usr/bin/renewd run
ExecReload=/usr/bin/renewd check
ExecReload=/bin/sh -c 'kill -HUP "$MAINPID"'
User=renewd
`

// A program outside /usr/bin gets a drop-in and the same unit.
func TestRepointChangesTheProgramAndNothingElse(t *testing.T) {
	got := string(repoint([]byte(someUnit), "/usr/bin/renewd", "/opt/my tools/100%/renewd"))
	want := `[Service]
ExecStart=
ExecStart="/opt/my tools/100%%/renewd" run
ExecReload=
ExecReload="/opt/my tools/100%%/renewd" check
ExecReload=/bin/sh -c 'kill -HUP "$MAINPID"'
`
	if _, got, _ := strings.Cut(got, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPutSaysWhatItDidAndDoesItOnce(t *testing.T) {
	var said []string
	s := New(Options{Name: "renewd", Say: func(f string, a ...any) { said = append(said, fmt.Sprintf(f, a...)) }})
	path := filepath.Join(t.TempDir(), "a", "b.service")
	for i, step := range []struct {
		data    string
		changed bool
	}{{"one", true}, {"one", false}, {"two", true}} {
		if changed, err := s.put(path, []byte(step.data)); err != nil || changed != step.changed {
			t.Errorf("step %d: %v %v", i, changed, err)
		}
	}
	if b, _ := os.ReadFile(path); string(b) != "two" {
		t.Errorf("the file says %q", b)
	}
	if got := strings.Join(said, "; "); got != "wrote "+path+"; replaced "+path {
		t.Errorf("said %q", got)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".renewd-*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// Purge takes what is the service's and nothing else.
func TestPurgeLeavesOthersAlone(t *testing.T) {
	dir := t.TempDir()
	mine, other := filepath.Join(dir, "renewd"), filepath.Join(dir, "other")
	for _, d := range []string{mine, other} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := New(Options{Name: "renewd", Data: []string{mine, filepath.Join(dir, "gone", "renewd"), other}})
	if err := s.Purge(); err == nil {
		t.Error("another's directory was accepted")
	}
	if _, err := os.Stat(mine); err == nil {
		t.Error("its own directory is still there")
	}
	if _, err := os.Stat(other); err != nil {
		t.Error("another's directory is gone")
	}
}

func TestStateOfWhatSystemctlShows(t *testing.T) {
	st := parseShow("LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nUnitFileState=enabled\nMainPID=0\nStatusText=\nResult=watchdog\nNRestarts=3\nFragmentPath=/etc/systemd/system/renewd.service\n")
	want := State{Installed: true, Enabled: true, Detail: "activating (auto-restart), last result: watchdog, restarted 3 times", Path: "/etc/systemd/system/renewd.service"}
	if st != want {
		t.Errorf("got  %+v\nwant %+v", st, want)
	}
	if st := parseShow("LoadState=not-found\nActiveState=inactive\nSubState=dead\n"); st.Installed || st.Running {
		t.Errorf("a service that is not there: %+v", st)
	}
}

func TestProgramThatTheSandboxHidesIsRefused(t *testing.T) {
	for path, ok := range map[string]bool{"/usr/local/bin/renewd": true, "/opt/renewd": true, "/home/bob/renewd": false, "/root/renewd": false, "/tmp/x/renewd": false} {
		if err := visible(path); (err == nil) != ok {
			t.Errorf("%s: %v", path, err)
		}
	}
}
