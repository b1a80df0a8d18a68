package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// readme is what README shows: blocks by their language, and commands in its text.
type readme struct {
	t    *testing.T
	text string
}

// block is the one block of a language that holds a word.
func (r *readme) block(language, word string) (out string) {
	r.t.Helper()
	for _, m := range regexp.MustCompile("(?ms)^( *)```"+language+"\n(.*?)^ *```").FindAllStringSubmatch(r.text, -1) {
		if strings.Contains(m[2], word) {
			if out != "" {
				r.t.Fatalf("README has two %s blocks with %q", language, word)
			}
			for line := range strings.Lines(m[2]) {
				out += strings.TrimPrefix(line, m[1]) // as far as a list indents it
			}
		}
	}
	if out == "" {
		r.t.Fatalf("README has no %s block with %q", language, word)
	}
	return out
}

// inline is the one command in the text that begins so.
func (r *readme) inline(begins string) string {
	r.t.Helper()
	all := regexp.MustCompile("`("+regexp.QuoteMeta(begins)+"[^`]*)`").FindAllStringSubmatch(r.text, -1)
	if len(all) != 1 {
		r.t.Fatalf("README has %d commands that begin with %q", len(all), begins)
	}
	return strings.ReplaceAll(all[0][1], "\n", " ")
}

// README's way to the first token, by its own words, as a user who may use sudo: a
// package, and the program alone. What it has built is built on this machine, in a
// checkout that the box sees.
func TestE2EReadmeInstalls(t *testing.T) {
	wanted(t)
	r := &readme{t, read(t, "../../README.md")}
	for name, install := range map[string]func(b *box){
		"package": func(b *box) { b.types(r.block("sh", "./packaging/build")) },
		"program": func(b *box) {
			b.types(r.block("bash", "go build"))
			b.types(r.block("sh", "renewd service install"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			vendor := b.vendor()
			b.boot()
			b.run("useradd", "-m", "-s", "/bin/bash", "alice")
			b.write("etc/sudoers.d/alice", "alice ALL=(ALL) NOPASSWD: ALL\n", 0o440)
			checkout(t, filepath.Join(b.root, "home/alice/renewd"))
			b.run("chown", "-R", "alice:", "/home/alice")
			install(b)

			config := strings.Replace(r.block("yaml", "commander.password"), "https://commander.example.com", api, 1)
			config = strings.Replace(config, "svc-inventory", "svc", 1)
			b.write("etc/renewd/renewd.yaml", config, 0o644)
			b.alice("printf %s " + password + " | " + strings.TrimSpace(r.block("sh", "sudo install -m 0400")))
			b.alice("sudo renewd check")
			b.alice(r.inline("sudo renewd service start"))
			b.eventually("the first token", 20*time.Second, func() bool { _, err := os.Stat(b.inside(tokenFile)); return err == nil })
			if token := b.alice("sudo renewd get commander"); !vendor.Valid(token) {
				t.Errorf("the API does not take what get prints, %d bytes", len(token))
			}
			b.alice("renewd version && sudo renewd status")
		})
	}
}

// goCommand is a line that needs Go, which the box has not.
var goCommand = regexp.MustCompile(`^([A-Z_0-9]+=\S* )*go `)

// types enters the lines of a block in the checkout, each as it stands. What needs
// Go is typed on this machine.
func (b *box) types(block string) {
	b.t.Helper()
	for line := range strings.Lines(block) {
		line = strings.TrimSpace(line)
		if !goCommand.MatchString(line) {
			b.alice("cd ~/renewd && " + line)
			continue
		}
		c := exec.CommandContext(b.t.Context(), "bash", "-euc", line)
		c.Dir = filepath.Join(b.root, "home/alice/renewd")
		c.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1790000000", "GOFLAGS=-buildvcs=false")
		if out, err := c.CombinedOutput(); err != nil {
			b.t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
}

// alice types a line in a shell of her own.
func (b *box) alice(line string) string {
	b.t.Helper()
	return b.run("runuser", "-u", "alice", "--", "env", "HOME=/home/alice", "USER=alice", "bash", "-euo", "pipefail", "-c", line)
}
