package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"renewd/agent/source/standin"
)

// processOf is what status says that the agent's process has given up.
func (r *rig) processOf() (process string, l listing) {
	r.t.Helper()
	out, errs, _ := r.cli("status", "-o", "json")
	if err := json.Unmarshal([]byte(out), &l); err != nil {
		r.t.Fatalf("%v: %s%s", err, out, errs)
	}
	return l.Process, l
}

// hasLandlock skips where the kernel has none.
func hasLandlock(t *testing.T) {
	t.Helper()
	if _, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); e != 0 {
		t.Skipf("this kernel has no Landlock: %v", e)
	}
}

// A whole agent lives confined: sinks at two places, secrets and certificates that
// are replaced by renames, reloads, a restart from its state. What a reload adds
// beyond it is refused whole, said, and taken after a restart.
func TestE2EConfinedAgent(t *testing.T) {
	hasLandlock(t)
	t.Parallel() // it waits for the end of a session
	r, api, _ := commanderRig(t, standin.CommanderOptions{Access: 4 * time.Second, Session: 20 * time.Second})
	srv, beyond := t.TempDir(), t.TempDir()
	config := strings.Replace(readFile(t, r.path("renewd.yaml")), "{type: file, format: json}", "{type: file, path: "+srv+"/token}", 1)
	r.write("renewd.yaml", config)
	r.start()
	r.waitFile("c")
	at := func(dir string) func() bool {
		return func() bool {
			b, err := os.ReadFile(filepath.Join(dir, "token"))
			return err == nil && api.Valid(string(b))
		}
	}
	eventually(t, "the token at the other place", 10*time.Second, at(srv))
	if said, _ := r.processOf(); !strings.HasPrefix(said, "confined by Landlock (ABI ") {
		t.Fatalf("status says %q", said)
	}
	if n := strings.Count(r.log.String(), msgConfined); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
	if out, _, _ := r.cli("status"); !strings.Contains(out, "\nprocess: confined by Landlock") {
		t.Errorf("the table lacks it:\n%s", out)
	}

	api.SetPassword("second")
	r.replace("password", "second")
	logins := api.Counts().Logins
	eventually(t, "a login with the replaced secret", 40*time.Second, func() bool { return api.Counts().Logins > logins })
	r.write("renewd.yaml", strings.Replace(config, "    allow:", "      - {type: file, path: "+srv+"/sub.header, format: header}\n    allow:", 1))
	eventually(t, "the sink that a reload added", 10*time.Second, func() bool { _, err := os.Stat(srv + "/sub.header"); return err == nil })

	wide := strings.Replace(config, "    allow:", "      - {type: file, path: "+beyond+"/token}\n    allow:", 1)
	r.write("renewd.yaml", wide)
	if _, errs, code := r.cli("reload"); code != exitUsage || !strings.Contains(errs, beyond+" is out of reach of the running agent") || !strings.Contains(errs, "restart the agent") {
		t.Errorf("the reload says, with code %d:\n%s", code, errs)
	}
	if _, l := r.processOf(); !strings.Contains(l.ConfigError, beyond+" is out of reach") {
		t.Errorf("status says %q of the config", l.ConfigError)
	}
	eventually(t, "the old config to go on", 10*time.Second, at(srv))
	r.write("renewd.yaml", config+"  x:\n    source: {type: exec, command: [/bin/echo, t], format: raw, lifetime: {default: 1h}}\n")
	if _, errs, code := r.cli("reload"); code != exitUsage || !strings.Contains(errs, "tokens.x.source.command: runs a program") {
		t.Errorf("a program's reload says, with code %d:\n%s", code, errs)
	}

	r.write("renewd.yaml", wide)
	logins = api.Counts().Logins
	gen := r.generationOf("c")
	r.stop()
	r.start()
	eventually(t, "the token at the new place, after the restart", 10*time.Second, at(beyond))
	if now := r.generationOf("c"); now < gen || api.Counts().Logins > logins+1 {
		t.Errorf("generation %d after %d, %d logins after %d", now, gen, api.Counts().Logins, logins)
	}

	if err := os.Rename(beyond, beyond+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(beyond, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, l := r.processOf(); !strings.Contains(strings.Join(l.Warnings, "\n"), beyond+" is out of reach: it was replaced") {
		t.Errorf("status does not warn of the replaced directory: %q", l.Warnings)
	}
}

// Who needs to run programs is not confined, nor who does not want to be; an
// agent without tokens waits with it.
func TestE2EConfinedOnlyWhereItCanBe(t *testing.T) {
	hasLandlock(t)
	later := filepath.Join(t.TempDir(), "later")
	const file = "tokens:\n  f:\n    source: {type: file, path: f.token, format: raw, lifetime: {default: 1h}}\n"
	for name, c := range map[string]struct{ config, want string }{
		"a program":      {"tokens:\n  x: {source: {type: exec, command: [/bin/echo, t], format: raw, lifetime: {default: 1h}}}\n", "not confined: tokens.x.source.command runs a program"},
		"a command":      {"tokens:\n  j: {source: {type: jwt, algorithm: HS256, key: {command: [/bin/echo, " + strings.Repeat("k", 40) + "]}, lifetime: 5m}}\n", "not confined: tokens.j.source.key runs a program"},
		"not wanted":     {"landlock: none\n" + file, "not confined: landlock: none in the config"},
		"no tokens":      {"tokens: {}\n", ""},
		"tokens at last": {"tokens: {}\n", "confined by Landlock"},
		"not there yet":  {file + "    sinks: [{type: file, path: " + later + "/token}]\n", "not confined: " + later + " is not there yet"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, c.config)
			r.write("f.token", "abc")
			r.start()
			eventually(t, "an agent", 20*time.Second, func() bool { _, _, code := r.cli("status"); return code != exitNoAgent })
			if name == "tokens at last" {
				r.write("renewd.yaml", file)
				if _, errs, code := r.cli("reload"); code != exitOK {
					t.Fatalf("reload: %d %s", code, errs)
				}
			}
			if got, _ := r.processOf(); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
				t.Errorf("status says %q, want %q", got, c.want)
			}
			if name == "not there yet" {
				if err := os.Mkdir(later, 0o755); err != nil {
					t.Fatal(err)
				}
				r.cli("reload")
				if got, _ := r.processOf(); !strings.HasPrefix(got, "confined by Landlock") {
					t.Errorf("when it is there, status says %q", got)
				}
				eventually(t, "the token there", 20*time.Second, func() bool { return r.here(later + "/token") })
			}
		})
	}
}

// Certificates and names are looked up after the confinement, wherever the
// environment has them.
func TestE2EConfinedAgentFindsRoots(t *testing.T) {
	hasLandlock(t)
	r, _, srv := commanderRig(t, standin.CommanderOptions{})
	config := strings.Replace(readFile(t, r.path("renewd.yaml")), "      tls: {ca_file: ca.pem}\n", "", 1)
	r.write("renewd.yaml", strings.Replace(config, "127.0.0.1", "localhost", 1))
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, srv.CAPEM, 0o644); err != nil {
		t.Fatal(err)
	}
	r.env = append(r.env, "SSL_CERT_FILE="+roots, "SSL_CERT_DIR=/nonexistent")
	r.start()
	r.waitFile("c")
	if got, _ := r.processOf(); !strings.HasPrefix(got, "confined by Landlock") {
		t.Errorf("status says %q", got)
	}
}

// Root is warned where a manager runs the agent, unless the config needs root.
func TestE2ERootIsWarned(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const file = "tokens:\n  f:\n    source: {type: file, path: f.token, format: raw, lifetime: {default: 1h}}\n    sinks: [{type: file%s}]\n"
	for name, c := range map[string]struct {
		sink, env string
		warned    bool
	}{"a service": {"", "INVOCATION_ID=1", true}, "by hand": {"", "INVOCATION_ID=", false}, "an owner": {", owner: nobody", "INVOCATION_ID=1", false}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, fmt.Sprintf(file, c.sink))
			r.write("f.token", "abc")
			r.env = append(r.env, c.env)
			r.start()
			eventually(t, "the start", 20*time.Second, func() bool { return strings.Contains(r.log.String(), msgStarted) })
			if got := strings.Contains(r.log.String(), msgRoot); got != c.warned {
				t.Errorf("warned: %v", got)
			}
		})
	}
}

func (r *rig) here(path string) bool { _, err := os.Stat(path); return err == nil }

// replace puts another file in a file's place, as editors and mounts do.
func (r *rig) replace(name, text string) {
	r.t.Helper()
	r.write(name+".new", text)
	if err := os.Rename(r.path(name+".new"), r.path(name)); err != nil {
		r.t.Fatal(err)
	}
}

// generationOf is what the socket says.
func (r *rig) generationOf(name string) int {
	r.t.Helper()
	var n int
	eventually(r.t, "an answer of "+name, 20*time.Second, func() bool {
		out, _, code := r.cli("get", name, "-f", "json")
		var m struct{ Generation int }
		err := json.Unmarshal([]byte(out), &m)
		n = m.Generation
		return code == exitOK && err == nil
	})
	return n
}
