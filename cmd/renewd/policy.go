package main

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"renewd/agent"
	"renewd/agent/config"
	"renewd/agent/secret"
	execsource "renewd/agent/source/exec"
	"renewd/agent/source/http"
	"renewd/agent/source/jwt"
	"renewd/agent/source/spec"
)

// judgement is what is found, in one load of the config, about who else may read
// its secrets or change the programs it runs. Each file is judged and told once,
// however many tokens name it.
type judgement struct {
	refusePlain, refuseInsecure bool

	runs    string // the first key that has a program run; "" where none has
	keyring string // the first key whose secret is in a keyring

	open   map[string]bool   // by file: every user can read it
	judged map[string]bool   // by file, as one that holds secrets
	unsafe map[string]string // by program: why it may not be run; "" is fine
	hints  map[string]string
}

// newJudgement judges by the config's policy; strict asks for all of it.
func newJudgement(p config.Policy, strict bool) *judgement {
	return &judgement{refusePlain: strict || p.PlainSecrets == "refuse", refuseInsecure: strict || p.Insecure == "refuse",
		open: map[string]bool{}, judged: map[string]bool{}, unsafe: map[string]string{}, hints: map[string]string{}}
}

func (j *judgement) othersRead(path string) bool {
	open, known := j.open[path]
	if !known {
		open = secret.OthersRead(path)
		j.open[path] = open
	}
	return open
}

// insecure makes an unchecked server an error where the policy refuses it.
func (j *judgement) insecure(problems []spec.Problem) {
	for i, p := range problems {
		if p.Warn && j.refuseInsecure && strings.HasPrefix(p.Path, "tls.") {
			problems[i].Warn = false
			problems[i].Msg += "; the policy refuses that"
		}
	}
}

// token judges what one token's source uses.
func (j *judgement) token(t *config.Token, src agent.Source, c *config.Config) (out config.Problems) {
	own := t.Place()
	switch s := src.(type) {
	case *http.Source:
		for path, h := range s.Secrets(true) {
			out = append(out, j.secret(own, path, h)...)
		}
		if preset := c.Presets[t.Source.Type]; preset != nil {
			for path, h := range s.Secrets(false) {
				out = append(out, j.secret(preset.Place, path, h)...)
			}
		}
		out = append(out, j.clientKey(t, c)...)
	case oauthSource:
		for path, h := range s.Secrets(true) {
			out = append(out, j.secret(own, path, h)...)
		}
		for path, name := range s.Subjects() {
			if c.Tokens[name] == nil {
				out = append(out, own.Problem(spec.Problem{Path: path, Msg: fmt.Sprintf("there is no token %q", name),
					Hint: spec.Meant(name, sortedKeys(c.Tokens))}))
			}
		}
		out = append(out, j.clientKey(t, c)...)
	case *jwt.Source:
		out = append(out, j.secret(own, "key", s.Key())...)
	case *execsource.Source:
		// A plain value there is a setting like any other variable's.
		for name, ref := range t.Source.Exec.Env {
			if h := ref.Handle(); !h.Inline() {
				out = append(out, j.secret(own, spec.Key("env", name), h)...)
			}
		}
		out = append(out, j.program(own, "command", s.Program())...)
	}
	return append(out, readersServed(t, src)...)
}

// oauthSource is what oauth2.New makes, whatever else it can do.
type oauthSource interface {
	Secrets(own bool) iter.Seq2[string, secret.Handle]
	Subjects() iter.Seq2[string, string] // other tokens that it is made from
}

// secret judges where one secret is kept.
func (j *judgement) secret(pl config.Place, path string, h secret.Handle) config.Problems {
	if h.Keyring() && j.keyring == "" {
		j.keyring = pl.Problem(spec.Problem{Path: path}).Path
	}
	switch file := h.File(); {
	case h.Inline() && j.refusePlain:
		return config.Problems{pl.Problem(spec.Problem{Path: path, Msg: "the secret stands in the config; the policy refuses that",
			Hint: "move it out: {file: …}, {credential: …} or {command: […]}"})}
	case h.Inline():
		if j.judged[pl.File()] || !j.othersRead(pl.File()) {
			return nil
		}
		j.judged[pl.File()] = true
		return config.Problems{pl.Problem(spec.Problem{Path: path, Warn: true, Msg: "the secret stands in a file that every user of this machine can read",
			Hint: "run: chmod o-rwx " + pl.File() + ", or move it out: {file: …}"})}
	case file != "":
		return j.secretFile(pl, path, file)
	}
	return j.program(pl, path, h.Program())
}

// secretFile warns of a secret that every user can read. It is used all the
// same: that is how containers mount secrets.
func (j *judgement) secretFile(pl config.Place, path, file string) config.Problems {
	if j.judged[file] {
		return nil
	}
	j.judged[file] = true
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return config.Problems{pl.Problem(spec.Problem{Path: path, Warn: true, Msg: fmt.Sprintf("the secret file %q is not there", file),
			Hint: "write it: install -m 0600 /dev/stdin " + file})}
	}
	if !j.othersRead(file) {
		return nil
	}
	return config.Problems{pl.Problem(spec.Problem{Path: path, Warn: !j.refusePlain, Msg: fmt.Sprintf("every user of this machine can read the secret file %q", file),
		Hint: "run: chmod o-rwx " + file})}
}

// clientKey judges the key of a client certificate like any other secret.
func (j *judgement) clientKey(t *config.Token, c *config.Config) config.Problems {
	tls := c.Defaults.TLS
	pl, path := c.Place(), "defaults.tls.key_file"
	if own := ownTLS(t); own != nil && own.KeyFile != "" {
		tls, pl, path = own, t.Place(), "tls.key_file"
	}
	if tls == nil || tls.KeyFile == "" {
		return nil
	}
	return j.secretFile(pl, path, string(tls.KeyFile))
}

// state judges the key that seals the state.
func (j *judgement) state(c *config.Config) config.Problems {
	if c.State.Key == nil {
		return nil
	}
	return j.secret(c.Place(), "state.key", c.State.Key.Handle())
}

// program refuses a program that others could swap: it would run as the agent
// and hand out the secrets. One that is not there is told when it is run.
func (j *judgement) program(pl config.Place, path, name string) config.Problems {
	if name == "" {
		return nil
	}
	if j.runs == "" {
		j.runs = pl.Problem(spec.Problem{Path: path}).Path
	}
	why, known := j.unsafe[name]
	if !known {
		if file, err := exec.LookPath(name); err == nil && filepath.IsAbs(file) {
			if bad := trusted(file); bad != nil {
				why = fmt.Sprintf("the program %q %v", file, bad)
				j.hints[name] = bad.hint
			}
		} else if errors.Is(err, exec.ErrDot) {
			why = fmt.Sprintf("the program %q is found in the current directory alone", name)
			j.hints[name] = "write its whole path"
		} else if _, err := os.Stat(name); err == nil && filepath.IsAbs(name) {
			why = fmt.Sprintf("the program %q cannot be executed", name)
			j.hints[name] = "run: chmod +x " + name
		}
		j.unsafe[name] = why
	}
	if why == "" {
		return nil
	}
	return config.Problems{pl.Problem(spec.Problem{Path: path, Msg: why, Hint: j.hints[name]})}
}

// readersServed warns where the schedule leaves readers without a valid token, or
// where a consumer that the config names would refresh or throw away a token that
// renewd does not renew yet.
func readersServed(t *config.Token, src agent.Source) (out config.Problems) {
	life := src.Traits().Life
	if life <= 0 {
		return nil
	}
	before, err := t.Renew.Before.Parse()
	if err != nil {
		return nil
	}
	lead, _ := agent.Lead(life, before)
	if least, err := t.Renew.MinInterval.Parse(); err == nil && least >= life {
		out = append(out, t.PlaceOf().Problem(spec.Problem{Path: "renew.min_interval", Warn: true,
			Msg:  fmt.Sprintf("these tokens live %s: each will have expired before the next may be had", short(life)),
			Hint: fmt.Sprintf("set it below %s", short(life-lead))}))
	}
	for i, name := range t.Readers {
		need := config.ReaderNeeds(name)
		if need <= lead {
			continue
		}
		p := spec.Problem{Path: spec.Index("readers", i), Warn: true,
			Msg: fmt.Sprintf("%s wants a token to have %s left, and the lead is %s", name, short(need), short(lead))}
		if most, _ := agent.Lead(life, life); need <= most {
			p.Hint = fmt.Sprintf("renew: {before: %s}", short(need))
		} else {
			p.Hint = fmt.Sprintf("these tokens live %s: have it read the token anew for each call", short(life))
		}
		out = append(out, t.PlaceOf().Problem(p))
	}
	return out
}
