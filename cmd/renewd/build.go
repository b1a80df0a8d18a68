package main

import (
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"

	"renewd/agent"
	"renewd/agent/config"
	"renewd/agent/secret"
	"renewd/agent/source/exec"
	filesource "renewd/agent/source/file"
	"renewd/agent/source/http"
	"renewd/agent/source/jwt"
	"renewd/agent/source/oauth2"
	"renewd/agent/source/spec"
	"renewd/agent/source/wire"
	"renewd/platform/atomicfile"
	"renewd/platform/paths"
	"renewd/sink"
)

// builder makes what the config declares: sources and sinks, in one switch each.
type builder struct {
	clock      agent.Clock
	secrets    *secret.Resolver
	transports *wire.Transports
	writer     *atomicfile.Writer
	paths      paths.Set
	log        *slog.Logger
	issuers    *oauth2.Issuers
	agent      *agent.Agent // that the sources are for; nil while there is none
	strict     bool         // judge as `check --strict` does

	judge    *judgement               // of the load under way
	programs map[string]*http.Program // presets, compiled once
	allowed  map[string]*agent.Access // of the load under way: equal lists are one
	env      *http.Env                // of the load under way
}

func newBuilder(clock agent.Clock, set paths.Set, log *slog.Logger) *builder {
	return &builder{clock: clock, secrets: secret.NewResolver(), transports: wire.NewTransports(wire.Options{Clock: clock, Concurrency: 256}), issuers: &oauth2.Issuers{},
		writer: atomicfile.NewWriter(), paths: set, log: log, programs: map[string]*http.Program{}}
}

// built is a config made into what the agent runs.
type built struct {
	specs   []*agent.Spec
	hosts   map[string]agent.HostLimits
	watched map[string][]watched // by path
	runs    string               // the first key that has a program run; "" where none has
	beyond  config.Problems      // why this process cannot run it and another one can
	unread  bool                 // nothing was made, since this process cannot read all that it takes
	keyring string               // the first key whose secret is in a keyring
}

// watched is what a changed file means.
type watched struct {
	token string
	kind  watchKind
}

type watchKind int

const (
	watchSecret watchKind = iota
	watchSource
	watchSink
)

// sinkPlace is where a sink was declared.
type sinkPlace struct {
	token *config.Token
	where string
}

// build makes everything; all problems are told at once.
func (b *builder) build(c *config.Config) (*built, config.Problems) {
	out := &built{hosts: map[string]agent.HostLimits{}, watched: map[string][]watched{}}
	for name, l := range c.Hosts {
		for _, h := range hostPorts(name) {
			out.hosts[h] = agent.HostLimits{Concurrency: l.Concurrency}
			if l.Requests != nil {
				out.hosts[h] = agent.HostLimits{Concurrency: l.Concurrency, Requests: l.Requests.N, Per: l.Requests.Per}
			}
		}
	}
	var problems config.Problems
	sinks := map[string]sinkPlace{}
	// Presets are compiled anew: an admin's own may have changed.
	clear(b.programs)
	defer func() { clear(b.programs) }() // they hold values of sources, of a refused config too
	b.allowed = map[string]*agent.Access{}
	b.judge = newJudgement(c.Policy, b.strict)
	b.env = &http.Env{Now: b.clock, Secrets: b.secrets, Transports: b.transports,
		TLS: c.Defaults.TLS, Proxy: c.Defaults.Proxy, NoProxy: c.Defaults.NoProxy}
	problems = append(problems, b.judge.state(c)...)
	if c.Socket.UnixPath != "" {
		if err := unixPathAllowed(); err != nil {
			problems = append(problems, c.Place().Problem(spec.Problem{Path: "socket.unix_path", Msg: err.Error(), Hint: "leave it out"}))
		}
	}
	names := sortedKeys(c.Tokens)
	sources := b.sources(names, c)
	for i, name := range names {
		s, ps := b.token(name, sources[i], c, out, sinks)
		problems = append(problems, ps...)
		if s != nil {
			out.specs = append(out.specs, s)
		}
	}
	out.runs, out.keyring = b.judge.runs, b.judge.keyring
	return out, problems
}

// hostPorts are the names under which limits are kept: a name without a port
// stands for the two usual ones.
func hostPorts(name string) []string {
	if _, _, err := net.SplitHostPort(name); err == nil {
		return []string{name}
	}
	return []string{net.JoinHostPort(name, "443"), net.JoinHostPort(name, "80")}
}

// token makes all of a token but its source.
func (b *builder) token(name string, of made, c *config.Config, out *built, taken map[string]sinkPlace) (*agent.Spec, config.Problems) {
	var problems config.Problems
	t, src, ps := c.Tokens[name], of.source, of.problems
	b.judge.insecure(ps)
	for _, p := range ps {
		problems = append(problems, t.Place().Problem(p))
	}
	if src != nil {
		problems = append(problems, b.judge.token(t, src, c)...)
	}
	s := &agent.Spec{Name: name, Source: src}
	at := func(path string, err error, hint string) {
		problems = append(problems, t.PlaceOf().Problem(spec.Problem{Path: path, Msg: err.Error(), Hint: hint}))
	}
	s.Renew.Before, _ = t.Renew.Before.Parse()
	s.Renew.MinInterval, _ = t.Renew.MinInterval.Parse()
	if j := t.Renew.Jitter; j != nil {
		s.Renew.NoJitter, s.Renew.Jitter = true, float64(*j)
	}
	s.Access = b.readers(t.Allow, at)
	for i := range t.Sinks {
		where := spec.Index("sinks", i)
		sk, err := b.sink(name, &t.Sinks[i])
		if err != nil {
			at(where, err, hintOf(err))
			continue
		}
		if p := presented(src); t.Sinks[i].Format == "header" && p.Query != "" {
			at(where, sink.ErrNoHeader, "format: curl, env or json")
			continue
		}
		if other, ok := taken[sk.Path()]; ok {
			first := other.token.PlaceOf().Problem(spec.Problem{Path: other.where})
			at(where, errors.New("two sinks write one file"), fmt.Sprintf("the other is %s in %s:%d", first.Path, first.File, first.Line))
			continue
		}
		taken[sk.Path()] = sinkPlace{t, where}
		s.Sinks = append(s.Sinks, sk)
		out.watched[sk.Path()] = append(out.watched[sk.Path()], watched{name, watchSink})
	}
	if problems.Fatal() || src == nil {
		return nil, problems
	}
	s.SecretAtStart = readAtStart(src)
	out.watchSource(name, src)
	return s, problems
}

// readers resolves who else may read a token; problems go to at.
func (b *builder) readers(a *config.Allow, at func(path string, err error, hint string)) *agent.Access {
	if a == nil {
		return nil
	}
	key := strings.Join(a.Users, "\n") + "\n\n" + strings.Join(a.Groups, "\n")
	if known := b.allowed[key]; known != nil {
		return known
	}
	out, whole := &agent.Access{}, true
	tell := at
	at = func(path string, err error, hint string) { whole = false; tell(path, err, hint) }
	for i, u := range a.Users {
		if err := allowUser(out, u); err != nil {
			at(spec.Index("allow.users", i), err, "create the account, or correct its name")
		}
	}
	for i, g := range a.Groups {
		if err := allowGroup(out, g); err != nil {
			at(spec.Index("allow.groups", i), err, "create the group, or correct its name")
		}
	}
	if whole {
		b.allowed[key] = out
	}
	return out
}

func hintOf(err error) string {
	if e, ok := errors.AsType[*atomicfile.Error](err); ok {
		return e.Hint
	}
	return ""
}

// readAtStart says that a secret of a source is fixed until this process
// restarts.
func readAtStart(src agent.Source) bool {
	w, ok := src.(interface {
		Secrets(own bool) iter.Seq2[string, secret.Handle]
	})
	if !ok {
		return false
	}
	for _, own := range []bool{true, false} {
		for _, h := range w.Secrets(own) {
			if h.AtStart() {
				return true
			}
		}
	}
	return false
}

// watchSource notes the files that a source depends on.
func (out *built) watchSource(name string, src agent.Source) {
	if w, ok := src.(interface{ Files() []string }); ok {
		for _, f := range w.Files() {
			out.watched[f] = append(out.watched[f], watched{name, watchSecret})
		}
	}
	if w, ok := src.(interface{ SourceFile() string }); ok && w.SourceFile() != "" {
		out.watched[w.SourceFile()] = append(out.watched[w.SourceFile()], watched{name, watchSource})
	}
}

// made is the source of a token, nil where problems forbid one.
type made struct {
	source   agent.Source
	problems []spec.Problem
}

// sources makes those of all tokens. What binds a preset runs for several at once:
// that is most of what is made for a hundred thousand.
func (b *builder) sources(names []string, c *config.Config) []made {
	out := make([]made, len(names))
	one := func(i int) { out[i].source, out[i].problems = b.source(names[i], c.Tokens[names[i]], c) }
	var bound []int
	for i, name := range names {
		if s := &c.Tokens[name].Source; s.Use != nil {
			b.program(s.Type, c) // from here on it is only read
			bound = append(bound, i)
		} else {
			one(i)
		}
	}
	var all sync.WaitGroup
	for part := range slices.Chunk(bound, 1+len(bound)/runtime.GOMAXPROCS(0)) {
		all.Go(func() {
			for _, i := range part {
				one(i)
			}
		})
	}
	all.Wait()
	return out
}

// source is the one switch over the types of sources.
func (b *builder) source(name string, t *config.Token, c *config.Config) (agent.Source, []spec.Problem) {
	env, s := b.env, &t.Source
	switch {
	case s.HTTP != nil:
		p, problems := http.Compile("http", s.HTTP)
		if p == nil {
			return nil, problems
		}
		src, more := p.Bind(s.HTTP.Values, nil, env)
		return orNil(src), append(problems, more...)
	case s.Exec != nil:
		return sourceOrNil(exec.New(s.Exec, b.clock))
	case s.File != nil:
		return sourceOrNil(filesource.New(s.File, b.clock))
	case s.JWT != nil:
		return sourceOrNil(jwt.New(s.JWT, b.clock, b.secrets))
	case s.OAuth2 != nil:
		return oauth2.New(s.OAuth2, &oauth2.Env{Name: name, Now: b.clock, Secrets: b.secrets, Transports: b.transports, Issuers: b.issuers,
			Token: b.valid, TLS: c.Defaults.TLS, Proxy: c.Defaults.Proxy, NoProxy: c.Defaults.NoProxy})
	case s.Use != nil:
		p := b.program(s.Type, c)
		if p == nil {
			return nil, nil // said with the preset's own problems, or as an unknown type
		}
		src, problems := p.Bind(s.Use.Values, &s.Use.Overrides, env)
		return orNil(src), problems
	}
	return nil, nil
}

// valid gives the value of another token of the agent, to make one from.
func (b *builder) valid(name string) (agent.Secret, bool) {
	if b.agent == nil {
		return agent.Secret{}, false
	}
	t, ok := b.agent.Token(name)
	if !ok {
		return agent.Secret{}, false
	}
	p := t.Current()
	if p == nil || p.Expires <= b.clock().Boot {
		return agent.Secret{}, false
	}
	return p.Token, true
}

// orNil keeps a nil *http.Source from becoming a Source that is not nil.
func orNil(s *http.Source) agent.Source {
	if s == nil {
		return nil
	}
	return s
}

func sourceOrNil[S interface {
	comparable
	agent.Source
}](s S, problems []spec.Problem) (agent.Source, []spec.Problem) {
	var none S
	if s == none {
		return nil, problems
	}
	return s, problems
}

// program compiles a preset once.
func (b *builder) program(name string, c *config.Config) *http.Program {
	if p, ok := b.programs[name]; ok {
		return p
	}
	preset := c.Presets[name]
	if preset == nil {
		preset, _ = embedded(name)
	}
	if preset == nil {
		return nil
	}
	p, _ := http.Compile(name, preset.Spec)
	b.programs[name] = p
	return p
}

// presetProblems are what is wrong with the admin's own presets.
func presetProblems(c *config.Config) config.Problems {
	var out config.Problems
	for _, name := range sortedKeys(c.Presets) {
		preset := c.Presets[name]
		_, problems := http.Compile(name, preset.Spec)
		for _, p := range problems {
			out = append(out, preset.Place.Problem(p))
		}
	}
	return out
}

// embedded is one of the presets that come with renewd; nil for another name.
func embedded(name string) (*config.Preset, config.Problems) {
	data, ok := http.Preset(name)
	if !ok {
		return nil, nil
	}
	return config.DecodePreset(name, "preset "+name, data)
}
