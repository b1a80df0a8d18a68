package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"renewd/agent/config"
	"renewd/agent/source/wire"
	"renewd/platform/harden"
)

const (
	msgConfined    = "process confined"
	msgNotConfined = "process not confined"
)

// confined is what this process has given up and what it works with.
type confined struct {
	how  *harden.Confinement
	why  string // it is not confined
	yet  bool   // but may be after another reload
	dirs harden.Dirs
}

func (c *confined) String() string {
	if c.why != "" {
		return "not confined: " + c.why
	}
	return c.how.String()
}

// replaced says which directories the agent works with and cannot reach.
func (c *confined) replaced() (out []string) {
	for _, dir := range c.how.Lacks(c.dirs) {
		out = append(out, fmt.Sprintf("%s is out of reach: it was replaced since the agent confined itself; restart the agent", dir))
	}
	return out
}

// confine gives up, once, all that a config with tokens does not name. An agent
// that has none yet waits for its config, which may name anything.
func (d *daemon) confine(c *config.Config, b *built) {
	was := d.confined.Load()
	if len(b.specs) == 0 || was != nil && was.why != "" && !was.yet {
		return
	}
	now := &confined{how: &harden.Confinement{}, dirs: d.places(c, b)}
	switch {
	case was != nil && was.how.On():
		now.how = was.how
	case c.Landlock == "none":
		now.why = "landlock: none in the config"
	case b.runs != "":
		now.why = b.runs + " runs a program, which would be confined too"
	case notThere(now.dirs) != "":
		// It would be out of reach for good, and its token undelivered.
		now.why, now.yet = notThere(now.dirs)+" is not there yet; the next reload sees", true
	default:
		how, err := harden.Confine(now.dirs)
		if now.how = how; err != nil {
			now.why = err.Error()
		}
	}
	d.confined.Store(now)
	switch {
	case was != nil && was.why == now.why:
	case now.why != "":
		d.log.Info(msgNotConfined, "reason", now.why)
	default:
		d.log.Info(msgConfined, "by", now.String())
	}
}

// notThere names a directory that does not exist, nor one above it that may be
// used in the same way.
func notThere(dirs harden.Dirs) string {
	for _, d := range dirs.Write {
		if !existsBelow(d, dirs.Write) {
			return d
		}
	}
	for _, d := range dirs.Read {
		if !existsBelow(d, dirs.Read, dirs.Write) {
			return d
		}
	}
	return ""
}

// existsBelow reports whether dir is there, or one above it that is among kept.
func existsBelow(dir string, kept ...[]string) bool {
	for at := dir; ; at = filepath.Dir(at) {
		named := slices.ContainsFunc(kept, func(k []string) bool { return slices.Contains(k, at) })
		if _, err := os.Stat(at); named && err == nil {
			return true
		}
		if at == filepath.Dir(at) {
			return false
		}
	}
}

// outOfReach refuses a config that needs what this process has given up: nothing
// brings that back but a new process. b is nil where nothing is built yet. What was
// in use when it was replaced counts where inUse says so; else it is a warning, and
// the agent goes on.
func (d *daemon) outOfReach(c *config.Config, b *built, inUse bool) (out config.Problems) {
	now := d.confined.Load()
	if now == nil || !now.how.On() {
		return nil
	}
	const hint = "restart the agent, or write landlock: none and restart it once"
	if b != nil && b.runs != "" {
		out = append(out, config.Problem{File: d.configPath, Path: b.runs, Msg: "runs a program, and the running agent has given that up", Hint: hint})
	}
	for _, dir := range now.how.Lacks(d.places(c, b)) {
		why := "which has given up all that its config did not name"
		if slices.Contains(now.dirs.Read, dir) || slices.Contains(now.dirs.Write, dir) {
			if !inUse {
				continue
			}
			why = "since it was replaced"
		}
		out = append(out, config.Problem{File: d.configPath, Hint: hint, Msg: fmt.Sprintf("%s is out of reach of the running agent, %s", dir, why)})
	}
	return out
}

// places are the directories that the agent works with under c.
func (d *daemon) places(c *config.Config, b *built) harden.Dirs {
	read, write := places{}, places{}
	write.dir(d.paths.Runtime, d.stateDir(c), filepath.Dir(d.paths.Socket))
	read.file(d.configPath)
	read.file(c.Files...)
	read.dir(c.Dirs...)
	read.dir(os.Getenv("CREDENTIALS_DIRECTORY"))
	read.file(tlsFiles(c.Defaults.TLS)...)
	for _, t := range c.Tokens {
		read.file(tlsFiles(ownTLS(t))...)
	}
	if b != nil {
		for path, what := range b.watched {
			if slices.ContainsFunc(what, func(w watched) bool { return w.kind == watchSink }) {
				write.dir(filepath.Dir(path))
			} else {
				read.file(path)
			}
		}
	}
	return harden.Dirs{Read: sortedKeys(read), Write: sortedKeys(write)}
}

// places is a set of directories.
type places map[string]bool

func (p places) dir(dirs ...string) {
	for _, d := range dirs {
		if filepath.IsAbs(d) {
			p[d] = true
		}
	}
}

// file adds the directory of each file, and where a link leads.
func (p places) file(files ...string) {
	for _, f := range files {
		p.dir(filepath.Dir(f))
		if real, err := filepath.EvalSymlinks(f); err == nil {
			p.dir(filepath.Dir(real))
		}
	}
}

// tlsFiles are what t names, "" where it names none.
func tlsFiles(t *wire.TLS) []string {
	if t == nil {
		return nil
	}
	return []string{string(t.CAFile), string(t.CertFile), string(t.KeyFile)}
}

// ownTLS is what a token's source says of TLS itself; nil where it says nothing.
func ownTLS(t *config.Token) *wire.TLS {
	switch {
	case t.Source.Use != nil:
		return t.Source.Use.TLS
	case t.Source.HTTP != nil:
		return t.Source.HTTP.TLS
	case t.Source.OAuth2 != nil:
		return t.Source.OAuth2.TLS
	}
	return nil
}
