package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"renewd/agent"
	"renewd/agent/config"
	"renewd/agent/watch"
	"renewd/platform/harden"
	"renewd/platform/ipc"
	"renewd/platform/paths"
	"renewd/platform/service"
	"renewd/sink/socket"
)

// stopTime is how long a stop waits for what was sent.
const stopTime = 35 * time.Second

func newRun() *cobra.Command {
	var configPath string
	var once bool
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the agent in the foreground; it is what the service runs",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), stopSignals()...)
			defer stop()
			stderr := c.ErrOrStderr()
			code := func(err error) int { return report(err, stderr) }
			return service.Run(ctx, serviceName, code, func(ctx context.Context, n *service.Notifier) error {
				if n.Managed() {
					to, err := openEvents()
					if err != nil {
						return err
					}
					stderr = to // until the process ends: how it ends is told there
				}
				err := runAgent(ctx, stderr, n, configPath, once)
				if err != nil {
					n.UnstoreAll()
				}
				return slowly(ctx, stderr, n, err)
			})
		},
	}
	c.Flags().StringVar(&configPath, "config", "", "config file (default: the system's for root, else the user's own)")
	c.Flags().BoolVar(&once, "once", false, "obtain and publish every token once, then exit")
	return c
}

// runAgent is the whole agent, from its config to its end.
func runAgent(ctx context.Context, stderr io.Writer, n *service.Notifier, configPath string, once bool) error {
	set, err := setPaths(n.Managed())
	if err != nil {
		return err
	}
	if configPath != "" {
		if set.Config, err = filepath.Abs(configPath); err != nil {
			return fail(exitUsage, "", "%w", err)
		}
	}
	// From here to the end of the process: a signal that nobody takes would kill
	// an agent that starts, or that waits for what it sent.
	hup := make(chan os.Signal, 1)
	if s := reloadSignals(); len(s) > 0 && !once {
		signal.Notify(hup, s...)
	}
	// Before anything is made that would be root's.
	rights, err := giveUpRoot(set, once)
	if err != nil {
		return err
	}
	out := newLogQueue(stderr)
	defer out.Close()
	d, c, b, err := prepare(set, n, rights, out)
	if err != nil {
		return err
	}
	d.sayRoot()
	out.OnLost(func(lines int) { d.log.Warn("log lines were dropped: nobody read them", agent.KeyCount, lines) })
	d.hup, d.began = hup, settingsOf(c)
	if err := harden.Process(); err != nil {
		d.log.Warn("process cannot be hardened", agent.KeyError, err)
	}
	defer d.close()
	if once {
		return d.once(ctx, c, b)
	}
	return d.serve(ctx, c, b)
}

// prepare reads the config and opens the state.
func prepare(set paths.Set, n *service.Notifier, rights *privilege, stderr io.Writer) (*daemon, *config.Config, *built, error) {
	setGarbage(whileLoading) // until trim
	// Settings of the log stand in the config, so that is read first; until then
	// the log is as it is by default.
	c, problems, err := config.Load(set.Config)
	log, level := newLog(stderr, c.Log.Level, c.Log.Format)
	set = withConfig(set, c)
	d := &daemon{configPath: set.Config, paths: set, privilege: rights, log: log, level: level, builder: newBuilder(newClock(), set, log),
		watches: map[string]*watching{}, changed: make(chan struct{}, 1), again: make(chan struct{}, 1), notify: n, turned: make(chan struct{}, 1)}
	b, problems, err := d.build(c, problems, err, false)
	if err != nil {
		return nil, nil, nil, fail(exitUsage, "", "%w", err)
	}
	d.problems.Store(&problems)
	if problems.Fatal() {
		for _, p := range problems {
			if !p.Warn {
				fmt.Fprintf(stderr, "%srenewd: error: %s\n", loud(d.notify), p)
			}
		}
		return nil, nil, nil, fail(exitUsage, "mend it, then: renewd check --config "+set.Config, "the config cannot be used")
	}
	if rights != nil && rights.blocked != nil {
		return nil, nil, nil, rights.blocked
	}
	d.say(problems)
	warnProxy(log)
	if err := d.open(c); err != nil {
		return nil, nil, nil, err
	}
	d.watcher = watch.New(log)
	return d, c, b, nil
}

// warnProxy says that the environment's proxies are not used: a service's
// environment is not its admin's shell.
func warnProxy(log *slog.Logger) {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"} {
		if os.Getenv(name) != "" {
			log.Warn("proxy variables of the environment are ignored; set defaults: {proxy: …}", "variable", name)
			return
		}
	}
}

func (d *daemon) close() {
	if d.watcher != nil {
		d.watcher.Close()
	}
	if d.state != nil {
		if err := d.state.Close(); err != nil {
			d.log.Error(agent.MsgStateFailed, agent.KeyError, err)
		}
	}
}

// once obtains and publishes every token and ends.
func (d *daemon) once(ctx context.Context, c *config.Config, b *built) error {
	if err := d.makeRuntime(c); err != nil {
		return err
	}
	if err := d.apply(c, b); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	d.confine(c, b)
	runCtx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = d.agent.Run(runCtx) }()
	var missing []string
	for _, s := range b.specs {
		t, ok := d.agent.Token(s.Name)
		if !ok {
			continue
		}
		if !t.Settle(ctx) {
			missing = append(missing, s.Name)
			for _, p := range t.Status().Problems {
				d.log.Error("no token", agent.KeyToken, s.Name, agent.KeyKind, p.Kind, agent.KeyError, p.Detail, agent.KeyHint, p.Hint)
			}
		}
	}
	stop()
	<-ended
	if len(missing) > 0 {
		return fail(exitNotValid, "the log above says why", "no valid token, or not everywhere, for %s", strings.Join(missing, ", "))
	}
	return nil
}

// serve runs until ctx ends.
func (d *daemon) serve(ctx context.Context, c *config.Config, b *built) error {
	if err := d.makeRuntime(c); err != nil {
		return err
	}
	l, err := d.listen(c)
	if err != nil {
		return err
	}
	if err := d.apply(c, b); err != nil {
		_ = l.Close()
		return err
	}
	srv, err := socket.New(socket.Options{Agent: d.agent, Log: d.log, Version: versionText(), Managers: d.managers(l),
		Reload: d.reloadCall, ConfigError: d.configError, About: d.about})
	if err != nil {
		_ = l.Close()
		return fail(exitFailed, "", "%w", err)
	}
	stopServing, err := d.serveAll(srv, l, c, b)
	if err != nil {
		_ = l.Close()
		return err
	}
	d.notify.UnstoreRest()
	runCtx, stopRun := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = d.agent.Run(runCtx) }()
	d.log.Info(msgStarted, "socket", d.paths.Socket, agent.KeyCount, len(b.specs), "sealed_by", d.state.SealedBy())
	d.notify.Ready(d.statusLine())
	d.trim(len(b.specs))
	go d.tellStatus(runCtx)
	again := d.untilStopped(ctx, srv.Audit)

	how := "stops; waits for what was sent"
	if again {
		how = "starts again with the new config; waits for what was sent"
	}
	d.notify.Stopping(how)
	d.log.Info(msgStops)
	stopRun()
	closeCtx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	stopServing()
	_ = srv.Close(closeCtx)
	select {
	case <-ended:
		if again {
			d.superseded(closeCtx)
		} else {
			d.agent.Stopped(closeCtx)
		}
	case <-closeCtx.Done():
		d.log.Warn("stopped while an answer was still owed")
	}
	d.log.Info(msgStopped)
	return nil
}

// serveAll serves every socket, and then gives up what the process does not need; a
// reload waits for that.
func (d *daemon) serveAll(srv *socket.Server, l *ipc.Listener, c *config.Config, b *built) (stop func(), err error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	srv.Audit(c.Log.Audit)
	go func() { _ = srv.Serve(l) }()
	if err := d.serveUnknown(srv, c); err != nil {
		return nil, err
	}
	stopMetrics, err := d.metrics(srv, c)
	if err != nil {
		return nil, err
	}
	stopCredentials := d.credentials()
	d.warnRoot(c, b)
	d.confine(c, b)
	return func() {
		stopMetrics()
		stopCredentials()
	}, nil
}

// makeRuntime makes the directory of the socket where it is the default one.
func (d *daemon) makeRuntime(c *config.Config) error {
	if err := d.paths.MakeRuntime(); err != nil {
		hint := "make it writable by this user"
		if errors.Is(err, fs.ErrPermission) && c.Socket.Path == "" {
			hint = "run as root, or as a user with XDG_RUNTIME_DIR set"
		}
		return fail(exitFailed, hint, "%w", err)
	}
	// Made before it is watched: what happens in a directory that is not there
	// yet is seen late.
	err := os.Mkdir(d.paths.Tokens(), 0o711)
	if err == nil {
		err = os.Chmod(d.paths.Tokens(), 0o711) // whatever the umask
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fail(exitFailed, "make "+d.paths.Runtime+" writable by this user", "make the directory of tokens: %w", err)
	}
	return nil
}

// reloadCall is POST /v1/reload.
func (d *daemon) reloadCall(context.Context) (again bool, err error) {
	var errs []error
	problems, again := d.reload(false)
	if again {
		select {
		case d.again <- struct{}{}:
		default:
		}
	}
	if !problems.Fatal() {
		return again, nil
	}
	for _, p := range problems {
		if !p.Warn {
			errs = append(errs, errors.New(p.String()))
		}
	}
	return false, errors.Join(errs...)
}
