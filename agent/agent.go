package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	longestSleep = 30 * time.Second      // a sleep that a suspended machine may prolong
	toldSleep    = 10 * time.Minute      // the longest where the system tells of a suspend
	stepNoticed  = 5 * time.Second       // a wall clock that moved more than this has stepped
	resumeGap    = 10 * time.Second      // a sleep that took so much longer was a suspend
	tick         = 20 * time.Millisecond // the loop wakes at most so often by itself: what falls due close together is done together
)

// Options configure an Agent. Store, Clock and Log are required.
type Options struct {
	Store  Store
	Clock  Clock
	BootID string // of the machine's boot: tells whether saved boot-clock readings still hold
	Log    *slog.Logger
	Hosts  map[string]HostLimits // by host:port; from the config, they win over what sources bring
	Random func() float64        // uniform in [0, 1); nil: math/rand/v2

	// Alarm wakes the loop; nil: a timer of package time. Run stops it.
	Alarm Alarm
	// ClockTold says that ClockChanged is called whenever the wall clock was set
	// or the machine woke up. Else the loop looks for that every 30 s.
	ClockTold bool

	// Tick is called by the loop itself after each look at what is due, so that
	// whoever is told of it knows that the loop turns: at least every TickEvery
	// (0: it does not matter). It must not wait for anything.
	Tick      func()
	TickEvery time.Duration
}

// Alarm rings on C once a span that was Set has passed; setting it again replaces
// what was set.
type Alarm interface {
	C() <-chan struct{}
	Set(time.Duration)
	Stop()
}

// timer is an Alarm of package time.
type timer struct {
	*time.Timer
	rings chan struct{}
}

func newTimer() timer {
	rings := make(chan struct{}, 1)
	return timer{time.AfterFunc(0, func() {
		select {
		case rings <- struct{}{}:
		default:
		}
	}), rings}
}

func (t timer) C() <-chan struct{}  { return t.rings }
func (t timer) Set(d time.Duration) { t.Reset(d) }
func (t timer) Stop()               { t.Timer.Stop() }

// Spec is one token as the config declares it.
type Spec struct {
	Name   string
	Source Source
	Sinks  []Sink
	Renew  Renew
	// SecretAtStart says that a changed secret counts only after a restart: it
	// is read from the environment or from a credential.
	SecretAtStart bool

	Access *Access // who may read it on the socket, beside the managers
}

// Access lists who may read a token. It is resolved to numbers by who reads the
// config; it is never changed after Apply.
type Access struct {
	UIDs, GIDs []uint32
	SIDs       []string // Windows
}

// Agent holds all keepers and the loop that wakes them.
type Agent struct {
	store  Store
	clock  Clock
	bootID string
	log    *slog.Logger
	rnd    func() float64
	alarm  Alarm
	turned func() // the loop did; never nil
	rest   time.Duration
	ledger *ledger
	limits *limiter

	lasting  context.Context // of work that nothing cancels
	work     sync.WaitGroup
	stopping atomic.Bool     // nothing more is started
	patient  context.Context // of what waits for a person; a stop ends it
	hurry    context.CancelFunc
	wakeup   chan struct{}
	events   events

	roll atomic.Pointer[roll] // of all tokens; replaced whole at Apply

	mu    sync.Mutex
	queue dueQueue

	signMu  sync.Mutex
	signIns map[*keeper]*signIn

	applying sync.Mutex
	logoutMu sync.Mutex
	logouts  []*owedLogout

	origin   time.Duration // of the wall clock against the boot clock, when the agent was made
	swept    time.Duration // when the ledger was last swept
	last     Instant       // of the loop's latest look
	asked    time.Duration // how long it meant to sleep since
	stats    stats
	skews    sync.Map // host -> time.Duration
	stateMu  sync.Mutex
	stateErr error
}

// New opens the ledger and the owed logouts of the store. Tokens come with Apply.
func New(o Options) (*Agent, error) {
	a := &Agent{store: o.Store, clock: o.Clock, bootID: o.BootID, log: o.Log, rnd: o.Random, alarm: o.Alarm,
		lasting: context.Background(), wakeup: make(chan struct{}, 1), signIns: map[*keeper]*signIn{}}
	if a.turned = o.Tick; a.turned == nil {
		a.turned = func() {}
	}
	if a.rest = longestSleep; o.ClockTold {
		a.rest = toldSleep
	}
	if o.TickEvery > 0 {
		a.rest = min(a.rest, o.TickEvery)
	}
	a.patient, a.hurry = context.WithCancel(a.lasting)
	if a.rnd == nil {
		a.rnd = rand.Float64
	}
	a.roll.Store(newRoll())
	a.last = a.now()
	a.origin = a.last.offset()
	var err error
	if a.ledger, err = openLedger(o.Store, a.save, a.last, o.BootID); err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	if a.limits, err = openLimiter(o.Hosts, o.Store, a.save, a.last, o.BootID); err != nil {
		return nil, fmt.Errorf("open the windows of requests: %w", err)
	}
	if err := a.loadLogouts(a.last); err != nil {
		return nil, fmt.Errorf("open the owed logouts: %w", err)
	}
	return a, nil
}

func (a *Agent) now() Instant    { return a.clock() }
func (a *Agent) random() float64 { return a.rnd() }

// Run wakes keepers until ctx ends, then waits for what was sent and for
// deliveries under way. It never logs out and never withdraws by itself.
func (a *Agent) Run(ctx context.Context) error {
	if a.alarm == nil {
		a.alarm = newTimer()
	}
	defer a.alarm.Stop()
	a.alarm.Set(0)
	for {
		select {
		case <-ctx.Done():
			a.stopping.Store(true)
			a.hurry()
			a.work.Wait()
			var last sync.WaitGroup
			last.Go(a.flush)
			if err := a.limits.settle(a.lasting, a.now(), longestPatience); err != nil {
				a.stateFailed(err)
			}
			last.Wait()
			return nil
		case <-a.wakeup:
		case <-a.alarm.C():
		}
		a.asked = a.look(ctx)
		a.alarm.Set(a.asked)
		a.turned()
	}
}

// flush saves at the end what was to be saved at leisure.
func (a *Agent) flush() {
	var changes []Change
	for k := range a.roll.Load().all() {
		k.mu.Lock()
		if k.unsaved || k.dirty {
			if value, err := k.rec.encode(nil, a.now(), a.bootID); err == nil {
				changes = append(changes, Change{BucketTokens, k.name, value})
			}
			k.unsaved, k.dirty = false, false
		}
		k.mu.Unlock()
	}
	if len(changes) == 0 {
		return
	}
	if err := a.save(a.lasting, longestPatience, changes...); err != nil {
		a.stateFailed(err)
	}
}

// look turns every keeper that is due and returns how long to sleep.
func (a *Agent) look(ctx context.Context) time.Duration {
	now := a.now()
	a.noticeJumps(now)
	for ctx.Err() == nil {
		k := a.pop(now.Boot)
		if k == nil {
			break
		}
		if next := k.turn(now); next != forever {
			a.push(k, next)
		}
	}
	if now.Boot-a.swept > loginWindow {
		a.swept = now.Boot
		if unsaved := a.ledger.sweep(now); len(unsaved) > 0 {
			a.work.Add(1)
			go func() {
				defer a.work.Done()
				if err := a.ledger.writeUnsaved(a.lasting, a.now, unsaved); err != nil {
					a.stateFailed(err)
				}
			}()
		}
	}
	next := min(a.limits.ready(now.Boot, (*keeper).admitted), a.endSessions(now))
	a.mu.Lock()
	if len(a.queue) > 0 {
		next = min(next, a.queue[0].at)
	}
	a.mu.Unlock()
	a.last = a.now()
	if next <= a.last.Boot {
		return 0
	}
	next = min(next, a.last.Boot+a.rest)
	return (next+tick-1)/tick*tick - a.last.Boot
}

// again turns a keeper whose background work has ended.
func (a *Agent) again(k *keeper) {
	if a.stopping.Load() {
		return
	}
	if next := k.turn(a.now()); next != forever {
		a.push(k, next)
	}
}

// secretWorked has everyone ask the ledger again who waits since a secret was refused:
// it may be the one that has worked now.
func (a *Agent) secretWorked() {
	for k := range a.roll.Load().all() {
		k.mu.Lock()
		p := k.login.problem
		waits := p != nil && p.Kind == Rejected && !k.login.account
		if waits {
			k.login.notBefore = 0
			k.believe()
		}
		k.mu.Unlock()
		if waits {
			a.push(k, 0)
		}
	}
}

// errSlow is a store that did not answer in time: a disk that hangs is one that
// cannot be written.
var errSlow = errors.New("the state's disk did not answer in time")

// save writes changes, waits for that no longer than patience, and keeps what
// the state's health is.
func (a *Agent) save(ctx context.Context, patience time.Duration, changes ...Change) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := a.store.Save(ctx, changes...)
	if err != nil && ctx.Err() != nil {
		return errSlow
	}
	a.stateMu.Lock()
	mended := err == nil && a.stateErr != nil
	if mended {
		a.stateErr = nil
	}
	a.stateMu.Unlock()
	if mended {
		a.log.Info(MsgStateSaved)
	}
	return err
}

// stateFailed says once that the state cannot be written.
func (a *Agent) stateFailed(err error) {
	a.stateMu.Lock()
	first := a.stateErr == nil
	a.stateErr = err
	a.stateMu.Unlock()
	if first {
		a.log.Error(MsgStateFailed, KeyError, err)
	}
}

// StateError is why the state cannot be written, nil while it can.
func (a *Agent) StateError() error {
	a.stateMu.Lock()
	defer a.stateMu.Unlock()
	return a.stateErr
}
