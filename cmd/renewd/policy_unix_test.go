//go:build unix

package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// open makes what stands in t's directory reachable by every user, as /etc is:
// the directory that testing makes is 0700.
func openDir(t *testing.T, files map[string]string, modes map[string]fs.FileMode) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "{dir}", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range modes {
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// checkDir runs renewd check on dir and gives what it printed, without dir.
func checkDir(t *testing.T, dir string, args ...string) (string, int) {
	t.Helper()
	t.Setenv("RUNTIME_DIRECTORY", filepath.Join(dir, "run"))
	t.Setenv("STATE_DIRECTORY", filepath.Join(dir, "state"))
	if err := os.MkdirAll(filepath.Join(dir, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	var o, e bytes.Buffer
	code := run(append([]string{"check", "--config", filepath.Join(dir, "renewd.yaml")}, args...), strings.NewReader(""), &o, &e)
	return strings.ReplaceAll(o.String()+e.String(), dir+"/", ""), code
}

const (
	plainSecret = "tokens:\n  a: {source: {type: emnify, application_token: hunter2}}\n"
	fileSecret  = "tokens:\n  a: {source: {type: emnify, application_token: {file: s}}}\n"
	insecure    = "tokens:\n  a: {source: {type: emnify, application_token: {file: s}, tls: {insecure: true}}}\n"
	execToken   = "tokens:\n  a: {source: {type: exec, command: [\"{dir}/bin/prog\"], lifetime: {max: 1h}}}\n"
	execSecret  = "tokens:\n  a: {source: {type: emnify, application_token: {command: [\"{dir}/bin/prog\"]}}}\n"
)

// What others may read is warned of, and refused where the policy or --strict
// asks; what others may run in our place is always refused. No message quotes.
func TestPolicy(t *testing.T) {
	const refuse = "policy: {insecure: refuse, plain_secrets: refuse}\n"
	type modes = map[string]fs.FileMode
	for _, c := range []struct {
		name, config string
		modes        modes
		args         []string
		want         string // "" is: nothing but ok
		code         int
	}{
		{"plain, private", plainSecret, nil, nil, "", exitOK},
		{"plain, open", plainSecret, modes{"renewd.yaml": 0o644}, nil, "warning: renewd.yaml:2:49: tokens.a.source.application_token: the secret stands in a file that every user of this machine can read (run: chmod o-rwx renewd.yaml, or move it out: {file: …})", exitOK},
		{"plain, open but nobody gets there", plainSecret, modes{"renewd.yaml": 0o644, ".": 0o700}, nil, "", exitOK},
		{"plain, policy", refuse + plainSecret, nil, nil, "error: renewd.yaml:3:49: tokens.a.source.application_token: the secret stands in the config; the policy refuses that (move it out: ", exitUsage},
		{"plain, strict", plainSecret, nil, []string{"--strict"}, "the secret stands in the config; the policy refuses", exitUsage},
		{"plain state key, policy", refuse + "state: {key: hunter2}\n", nil, nil, "error: renewd.yaml:2:14: state.key: the secret stands in the config", exitUsage},
		{"plain var, policy", refuse + inlineHTTP, nil, nil, "tokens.a.source.vars.password: the secret stands in the config", exitUsage},
		{"file, private", fileSecret, nil, nil, "", exitOK},
		{"file, open", fileSecret, modes{"s": 0o644}, nil, "warning: renewd.yaml:2:49: tokens.a.source.application_token: every user of this machine can read the secret file \"s\" (run: chmod o-rwx s)", exitOK},
		{"file, policy", refuse + fileSecret, modes{"s": 0o604}, nil, "error: renewd.yaml:3:49: tokens.a.source.application_token: every", exitUsage},
		{"file, strict", fileSecret, modes{"s": 0o604}, []string{"--strict"}, "error: renewd.yaml:2:49: tokens.a.source.application_token: every", exitUsage},
		{"insecure", insecure, nil, nil, "warning: renewd.yaml:2:76: tokens.a.source.tls.insecure: the server's certificate is not checked", exitOK},
		{"insecure, policy", refuse + insecure, nil, nil, "error: renewd.yaml:3:76: tokens.a.source.tls.insecure: the server's certificate is not checked: anyone on the way can read the credentials; the policy refuses that", exitUsage},
		{"insecure, strict", insecure, nil, []string{"--strict"}, "; the policy refuses that", exitUsage},
		{"program, ours", execToken, modes{"bin/prog": 0o755}, nil, "", exitOK},
		{"program, theirs to write", execToken, modes{"bin/prog": 0o757}, nil, "error: renewd.yaml:2:37: tokens.a.source.command: the program \"bin/prog\" is refused: others may write it (mode 0757) (run: chmod go-w bin/prog)", exitUsage},
		{"program, in a directory of theirs", execToken, modes{"bin/prog": 0o755, "bin": 0o777}, nil, "(chmod go-w bin)", exitUsage},
		{"secret's program, theirs to write", execSecret, modes{"bin/prog": 0o775}, nil, "tokens.a.source.application_token: the program \"bin/prog\" is refused", exitUsage},
		{"program that is none", execToken, nil, nil, "the program \"bin/prog\" cannot be executed (run: chmod +x bin/prog)", exitUsage},
		{"program by name", "tokens:\n  a: {source: {type: exec, command: [echo, x], lifetime: {max: 1h}}}\n", nil, nil, "", exitOK},
		{"a symlink to their program", execToken, modes{"bin/prog": 0o755, "theirs": 0o777}, nil, "", exitOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := openDir(t, map[string]string{"renewd.yaml": c.config, "s": "hunter2", "bin/prog": "#!/bin/sh\necho x\n", "theirs/prog": "#!/bin/sh\n"}, c.modes)
			if c.name == "a symlink to their program" {
				if err := os.Remove(filepath.Join(dir, "bin/prog")); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(filepath.Join(dir, "theirs/prog"), filepath.Join(dir, "bin/prog")); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(filepath.Join(dir, "theirs/prog"), 0o755); err != nil {
					t.Fatal(err)
				}
				c.want, c.code = "(chmod go-w theirs)", exitUsage
			}
			got, code := checkDir(t, dir, c.args...)
			if code != c.code || !strings.Contains(got, c.want) || c.want == "" && got != "ok: 1 token(s), 0 sink(s), 0 warning(s)\n" {
				t.Errorf("exit code %d, want %d:\n%s\nwant %q", code, c.code, got, c.want)
			}
			if strings.Contains(got, "hunter2") {
				t.Errorf("quotes the secret: %s", got)
			}
		})
	}
}

const inlineHTTP = `tokens:
  a:
    source:
      type: http
      vars: {password: hunter2}
      login:
        request: {url: "https://x.example/", json: {p: "${password}"}}
        extract: {token: {pointer: /t}}
      lifetime: {max: 1h}
`

// One file that many tokens name is told once.
func TestPolicyTellsAFileOnce(t *testing.T) {
	dir := openDir(t, map[string]string{"s": "x", "renewd.yaml": fileSecret + strings.Replace(fileSecret[len("tokens:\n"):], "a:", "b:", 1)},
		map[string]fs.FileMode{"s": 0o644})
	if got, code := checkDir(t, dir); code != exitOK || strings.Count(got, "warning:") != 1 {
		t.Errorf("exit code %d:\n%s", code, got)
	}
}

// Who reads a token that is renewed later than it wants is told, where the life
// is known.
func TestReadersThatWantMoreLife(t *testing.T) {
	for _, c := range []struct{ readers, more, want string }{
		{"[kubernetes]", "", ""}, // cylance: 30 min, renewed 15 min ahead
		{"[kubernetes, aws-sdk]", ", renew: {before: 7m}", "warning: renewd.yaml:2:116: tokens.a.readers[1]: aws-sdk wants a token to have 10m left, and the lead is 7m (renew: {before: 10m})"},
		{"[google-auth]", ", renew: {before: 1m}", "renew: {before: 5m}"},
	} {
		dir := openDir(t, map[string]string{"s": "x", "renewd.yaml": "tokens:\n  a: {source: {type: cylance, region: euc1, tenant_id: t, app_id: a, app_secret: {file: s}}, readers: " + c.readers + c.more + "}\n"}, nil)
		got, code := checkDir(t, dir)
		if code != exitOK || !strings.Contains(got, c.want) || c.want == "" && strings.Contains(got, "warning:") {
			t.Errorf("%s%s: exit code %d:\n%s\nwant %q", c.readers, c.more, code, got, c.want)
		}
	}
	rare := openDir(t, map[string]string{"s": "x", "renewd.yaml": "tokens:\n  a: {source: {type: cylance, region: euc1, tenant_id: t, app_id: a, app_secret: {file: s}}, renew: {min_interval: 30m}}\n"}, nil)
	if got, code := checkDir(t, rare); code != exitOK || !strings.Contains(got, "tokens.a.renew.min_interval: these tokens live 30m: each will have expired before the next may be had (set it below 15m)") {
		t.Errorf("exit code %d: %s", code, got)
	}
	dir := openDir(t, map[string]string{"s": "x", "renewd.yaml": "tokens:\n  a: {source: {type: commander, url: \"https://x.example/rest/v3\", username: u, password: {file: s}}, readers: [aws-sdk]}\n"}, nil)
	if got, _ := checkDir(t, dir); !strings.Contains(got, "these tokens live 60s") && !strings.Contains(got, "these tokens live 1m") {
		t.Errorf("got %s", got)
	}
}

// Without the policy a running agent says it too, and goes on.
func TestAgentWarnsOfAnOpenSecret(t *testing.T) {
	r := newRig(t, "tokens:\n  a: {source: {type: exec, command: [/bin/echo, tok], env: {S: {file: s}}, lifetime: {max: 1h}}, sinks: [{type: file}]}\n")
	r.write("s", "hunter2")
	for path, mode := range map[string]fs.FileMode{filepath.Dir(r.dir): 0o755, r.path("s"): 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	r.start()
	r.waitFile("a")
	if got := r.log.String(); !strings.Contains(got, "every user of this machine can read the secret file") || !strings.Contains(got, "chmod o-rwx") {
		t.Errorf("the log says nothing of it:\n%s", got)
	}
	if out, _, _ := r.cli("status"); !strings.Contains(out, "every user of this machine can read") {
		t.Errorf("status says nothing of it:\n%s", out)
	}
	r.stop()
}
