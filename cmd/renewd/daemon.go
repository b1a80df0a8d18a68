package main

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"renewd/agent"
	"renewd/agent/config"
	"renewd/agent/secret"
	"renewd/agent/source/spec"
	"renewd/agent/state"
	"renewd/agent/watch"
	"renewd/platform/account"
	"renewd/platform/clock"
	"renewd/platform/paths"
	"renewd/platform/seal"
	"renewd/platform/service"
)

// daemon is the agent with everything around it: config, state, sinks, watches.
type daemon struct {
	configPath string
	paths      paths.Set
	log        *slog.Logger
	level      *slog.LevelVar
	agent      *agent.Agent
	state      *state.DB
	builder    *builder
	watcher    *watch.Watcher

	reloading sync.Mutex
	audit     atomic.Bool                     // the one setting of the config that is read again; the rest is a few KB a token
	problems  atomic.Pointer[config.Problems] // of the last load; fatal ones left the old config in place
	watches   map[string]*watching
	changed   chan struct{} // a file of the config changed
	hup       <-chan os.Signal
	began     settings // what a reload cannot change
	confined  atomic.Pointer[confined]
	next      *built                      // of a config that another process is to run; reloading guards it
	hosts     map[string]agent.HostLimits // to begin with, where no config is applied
	leaving   bool                        // to that process; nothing is reloaded any more; reloading guards it
	again     chan struct{}               // a caller asked for that config
	privilege *privilege                  // nil: it has the rights that it was started with, and that is as it should be

	notify *service.Notifier // nil: nobody is told
	turned chan struct{}     // the loop did

	tokens     atomic.Int64 // how many there are
	collapsing atomic.Bool  // collapse runs
}

// watching is one watched path and what its changes mean.
type watching struct {
	file *watch.File
	mu   sync.Mutex
	what []watched
}

// newClock is the seam of time for the whole process.
func newClock() agent.Clock {
	boot := new(clock.Reader)
	return func() agent.Instant {
		return agent.Instant{Wall: time.Now().Round(0), Boot: boot.Boot()}
	}
}

// settings are those that hold from the start of the agent to its end.
type settings struct {
	socket  config.Socket
	state   config.State
	metrics config.Metrics
	format  string
}

func settingsOf(c *config.Config) settings {
	return settings{c.Socket, c.State, c.Metrics, c.Log.Format}
}

// waiting says which settings of c the running agent does not have yet.
func (d *daemon) waiting(c *config.Config) (out config.Problems) {
	now := settingsOf(c)
	for _, s := range []struct {
		key      string
		was, new any
	}{{"socket", d.began.socket, now.socket}, {"state", d.began.state, now.state}, {"metrics", d.began.metrics, now.metrics}, {"log.format", d.began.format, now.format}} {
		if !reflect.DeepEqual(s.was, s.new) {
			out = append(out, c.Place().Problem(spec.Problem{Path: s.key, Warn: true, Msg: "changed, and takes effect when the agent restarts"}))
		}
	}
	return out
}

// setPaths are the directories of this process's agent: what systemd gave it,
// else the system's for root and what a manager started, else the user's own.
func setPaths(managed bool) (paths.Set, error) {
	set := paths.System()
	if !managed && !account.Machine() && os.Getenv("RUNTIME_DIRECTORY") == "" && os.Getenv("STATE_DIRECTORY") == "" {
		user, err := paths.User()
		if err != nil {
			return set, fail(exitFailed, "set HOME, or XDG_CONFIG_HOME, XDG_STATE_HOME and XDG_RUNTIME_DIR", "%w", err)
		}
		set = user
	}
	// systemd.exec(5): several directories are separated by colons; ours is the first.
	if d := firstDir("RUNTIME_DIRECTORY"); d != "" {
		set.Runtime = d
		set.Socket = paths.SocketIn(d)
	}
	if d := firstDir("STATE_DIRECTORY"); d != "" {
		set.State = d
	}
	if d := firstDir("CONFIGURATION_DIRECTORY"); d != "" {
		set.Config = filepath.Join(d, "renewd.yaml")
	}
	return set, nil
}

func firstDir(name string) string {
	for _, d := range filepath.SplitList(os.Getenv(name)) {
		if filepath.IsAbs(d) {
			return d
		}
	}
	return ""
}

// build makes what the agent runs of what config.Load returned, and says all
// that is wrong with it. checked: `renewd check` found nothing.
func (d *daemon) build(c *config.Config, problems config.Problems, err error, checked bool) (*built, config.Problems, error) {
	if errors.Is(err, config.ErrNoConfig) {
		d.log.Info(agent.MsgIdle, "config", d.configPath)
		return &built{}, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	problems = append(problems, judge(c, d.builder)...)
	if beyond := d.outOfReach(c, nil, false); len(beyond) > 0 { // before sources read their certificates
		if checked && d.startedAgain() && !problems.Fatal() {
			return &built{beyond: beyond, unread: true}, problems.Sorted(), nil
		}
		if d.startedAgain() && reflect.DeepEqual(d.began.state, c.State) {
			for i := range beyond {
				beyond[i].Hint = "this process cannot judge what is there; run: systemctl reload renewd, which has another one look (systemctl --user, of an agent of your own)"
			}
		}
		problems = append(problems, beyond...)
	}
	if problems.Fatal() {
		return nil, problems, nil
	}
	b, more := d.builder.build(c)
	problems = problems.With(more)
	if problems.Fatal() {
		return b, problems.Sorted(), nil
	}
	if d.startedAgain() {
		b.beyond = d.outOfReach(c, b, true)
	} else {
		problems = problems.With(d.outOfReach(c, b, false))
	}
	return b, problems.Sorted(), nil
}

func (d *daemon) stateDir(c *config.Config) string { return cmp.Or(string(c.State.Dir), d.paths.State) }

// open takes the state and makes the agent.
func (d *daemon) open(c *config.Config) error {
	dir := d.stateDir(c)
	if err := paths.MakePrivate(dir); err != nil {
		return fail(exitFailed, "make it writable by this user, or set state: {dir: …}", "make the state directory: %w", err)
	}
	o := state.Options{Dir: dir}
	for _, s := range seal.Sealers(d.system()) {
		o.Sealers = append(o.Sealers, s)
	}
	if c.State.Key != nil {
		key, err := secret.NewResolver().Resolve(context.Background(), *c.State.Key)
		if err != nil {
			return fail(exitUsage, "", "read state.key: %w", err)
		}
		o.Key = key
	}
	db, err := state.Open(o)
	if err != nil {
		return stateFailure(dir, err)
	}
	d.state = db
	var told atomic.Pointer[agent.Agent] // the clock may change before there is one
	_, tells := clock.Changes(func() {
		if a := told.Load(); a != nil {
			a.ClockChanged()
		}
	})
	a, err := agent.New(agent.Options{Store: db, Clock: newClock(), BootID: clock.BootID(), Log: d.log, Hosts: d.hosts,
		Alarm: clock.NewAlarm(), ClockTold: tells, Tick: d.tick, TickEvery: d.notify.AliveEvery()})
	if err != nil {
		_ = db.Close()
		return stateFailure(dir, err)
	}
	told.Store(a)
	d.agent, d.builder.agent = a, a
	return nil
}

// stateFailure says what to do about a state that cannot be used.
func stateFailure(dir string, err error) error {
	if _, ok := errors.AsType[*state.HeldError](err); ok {
		return fail(exitFailed, "stop it first, or talk to it: renewd status", "%w", err)
	}
	if _, ok := errors.AsType[*state.BrokenError](err); ok {
		return fail(exitUsage, "it was left as it is; to go on with an empty one: renewd state reset --keep-broken", "%w", err)
	}
	if errors.Is(err, fs.ErrPermission) { // a person mends it, as a broken one
		return fail(exitUsage, "give "+dir+", and all that is in it, to the user that runs the agent", "%w", err)
	}
	return fail(exitFailed, "", "%w", err)
}

// apply makes a checked config the running one.
func (d *daemon) apply(c *config.Config, b *built) error {
	if len(b.specs) >= manyTokens {
		setGarbage(whileLoading) // until trim
	}
	if err := d.agent.Apply(b.specs, b.hosts); err != nil {
		return stateFailure(d.stateDir(c), err)
	}
	setLevel(d.level, c.Log.Level)
	d.audit.Store(c.Log.Audit)
	d.watch(c, b)
	d.log.Info(agent.MsgApplied, agent.KeyCount, len(b.specs))
	return nil
}

// reload reads the config again; a bad one changes nothing. A good one that this
// process cannot run is left to another: again. checked: `renewd check` found
// nothing.
func (d *daemon) reload(checked bool) (problems config.Problems, again bool) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	if d.leaving {
		return nil, true // the next process reads what is there
	}
	d.notify.Reloading()
	defer func() { d.notify.Ready(d.statusLine()) }()
	d.next = nil
	c, problems, err := config.Load(d.configPath)
	if err == nil && c.Blank && len(c.Tokens) == 0 {
		err = errors.New("the config is empty")
	}
	gone := (errors.Is(err, config.ErrNoConfig) || err != nil && c.Blank) && len(d.agent.Names()) > 0
	if !gone && c.Blank {
		err = nil
	}
	var b *built
	if !gone {
		b, problems, err = d.build(c, problems, err, checked)
		again = b != nil && len(b.beyond) > 0
	}
	if err != nil {
		problems = config.Problems{{File: d.configPath, Msg: err.Error()}}
	}
	if gone {
		// An editor or a tool is at it, or someone's hand slipped: what its
		// tokens serve must not end by that.
		problems[0].Hint = "put it back; to run without tokens, write tokens: {}"
	} else if err == nil {
		waiting := d.waiting(c)
		if again {
			refuseMoves(waiting)
		}
		problems = append(problems, waiting...)
		if b != nil && !problems.Fatal() {
			problems = append(problems, d.beyondUser(c, b)...)
		}
	}
	d.problems.Store(&problems)
	d.say(problems)
	if problems.Fatal() {
		d.log.Error(msgRefused)
		return problems, false
	}
	if again {
		d.leave(b)
		return problems, true
	}
	tokens := len(b.specs)
	if err := d.apply(c, b); err != nil {
		problems = append(problems, config.Problem{File: d.configPath, Msg: err.Error()})
		d.problems.Store(&problems)
		d.log.Error(msgRefused, agent.KeyError, err)
		return problems, false
	}
	d.confine(c, b)
	d.trim(tokens)
	return problems, false
}

// say logs every problem of a config.
func (d *daemon) say(problems config.Problems) {
	for _, p := range problems {
		level := slog.LevelError
		if p.Warn {
			level = slog.LevelWarn
		}
		d.log.Log(context.Background(), level, "config: "+p.String())
	}
}

// watch follows the files that matter: the config's own, secrets, sources, and
// what sinks wrote.
func (d *daemon) watch(c *config.Config, b *built) {
	wanted := map[string][]watched{}
	for _, f := range append(slices.Clone(c.Files), c.Dirs...) {
		wanted[f] = nil
	}
	for _, dir := range []string{"conf.d", "presets"} {
		wanted[filepath.Join(filepath.Dir(d.configPath), dir)] = nil
	}
	wanted[d.configPath] = nil
	for path, what := range b.watched {
		wanted[path] = append(wanted[path], what...)
	}
	for path, w := range d.watches {
		if _, ok := wanted[path]; !ok {
			w.file.Stop()
			delete(d.watches, path)
		}
	}
	for path, what := range wanted {
		for i := range what {
			if t, ok := d.agent.Token(what[i].token); ok {
				what[i].token = t.Name() // one text with the agent's
			}
		}
		if w := d.watches[path]; w != nil {
			w.mu.Lock()
			w.what = what
			w.mu.Unlock()
			continue
		}
		w := &watching{what: what}
		w.file = d.watcher.Add(path, func() { d.follow(w) })
		d.watches[path] = w
	}
}

// follow hands the change of one file to whom it concerns.
func (d *daemon) follow(w *watching) {
	w.mu.Lock()
	what := w.what
	w.mu.Unlock()
	if len(what) == 0 {
		select {
		case d.changed <- struct{}{}:
		default:
		}
	}
	for _, x := range what {
		t, ok := d.agent.Token(x.token)
		if !ok {
			continue
		}
		switch x.kind {
		case watchSecret:
			t.SecretChanged()
		case watchSource:
			t.SourceChanged()
		case watchSink:
			t.Drifted()
		}
	}
}

// judge refuses a config whose files others may change: they could have their
// own programs run and their own servers sent the secrets.
func judge(c *config.Config, _ *builder) config.Problems {
	out := presetProblems(c)
	for _, f := range c.Files {
		if err := trusted(f); err != nil {
			out = append(out, config.Problem{File: f, Msg: err.Error(), Hint: err.hint})
		}
	}
	return out
}
