package agent

import (
	"errors"
	"sync"
	"syscall"
	"time"
)

// Status is all that may be said of one token; it holds no secret. Its JSON is
// a stable interface.
type Status struct {
	Name       string `json:"name"`
	Source     string `json:"source"`
	State      State  `json:"state"`
	Valid      bool   `json:"valid"`
	Generation uint64 `json:"generation"`
	Revision   uint64 `json:"revision"`

	IssuedAt             time.Time `json:"issued_at,omitzero"`
	ExpiresAt            time.Time `json:"expires_at,omitzero"`
	RefreshIdleExpiresAt time.Time `json:"refresh_idle_expires_at,omitzero"`
	RefreshExpiresAt     time.Time `json:"refresh_expires_at,omitzero"`
	SessionExpiresAt     time.Time `json:"session_expires_at,omitzero"`
	SessionStartedAt     time.Time `json:"session_started_at,omitzero"`
	RefreshesLeft        *int      `json:"refreshes_left,omitempty"`

	LifeSeconds float64      `json:"life_seconds,omitempty"`
	LeadSeconds float64      `json:"lead_seconds,omitempty"`
	LeadCut     bool         `json:"lead_cut,omitempty"` // renew.before was above 3/4 of the life
	NextRenewal time.Time    `json:"next_renewal,omitzero"`
	NextStep    Step         `json:"next_step,omitempty"`
	Renewing    bool         `json:"renewing,omitempty"`
	WaitingFor  string       `json:"waiting_for,omitempty"` // host whose limit delays it
	Lapses      bool         `json:"lapses,omitempty"`      // the next renewal is held back beyond the expiry
	Refused     bool         `json:"refused,omitempty"`     // an API refused this generation
	OverlapNone bool         `json:"overlap_none,omitempty"`
	PersonBy    time.Time    `json:"person_needed_by,omitzero"`
	Unsaved     bool         `json:"unsaved,omitempty"`
	AtStart     bool         `json:"secret_read_at_start,omitempty"` // a changed secret wants a restart
	Note        string       `json:"note,omitempty"`
	Problems    []Problem    `json:"problems,omitempty"`
	Sinks       []SinkStatus `json:"sinks,omitempty"`
}

// SinkStatus is how one sink of a token is.
type SinkStatus struct {
	ID     string    `json:"id"`
	OK     bool      `json:"ok"`
	Error  string    `json:"error,omitempty"`
	Cause  string    `json:"cause,omitempty"` // the system's own words for it, without a path
	Since  time.Time `json:"since,omitzero"`
	Errors uint32    `json:"errors,omitempty"` // since the agent started
}

// Status tells how the token is.
func (t Token) Status() Status {
	k := t.k
	now := k.a.now()
	k.mu.Lock()
	defer k.mu.Unlock()
	tr, r := k.src.Traits(), &k.rec
	at := func(b time.Duration) time.Time {
		if b == 0 {
			return time.Time{}
		}
		return now.At(b)
	}
	s := Status{
		Name: k.name, Source: tr.Type, State: k.state(now), Valid: k.valid(now),
		Generation: r.generation, Revision: r.revision,
		RefreshIdleExpiresAt: at(r.idleEnd), RefreshExpiresAt: at(r.refreshEnd),
		SessionExpiresAt: at(r.hardEnd(tr.Session)), SessionStartedAt: at(r.loginSent),
		Renewing: k.renewing, OverlapNone: tr.OverlapNone, PersonBy: at(k.personNeeded(now)), Unsaved: k.unsaved, AtStart: k.atStart, Note: r.noteText(),
	}
	if r.has() {
		s.IssuedAt, s.ExpiresAt = at(r.issued), at(r.expiry)
		s.Refused = k.isRefused()
	}
	if n := tr.Session.MaxRefreshes; n > 0 {
		left := max(0, n-int(r.refreshes))
		s.RefreshesLeft = &left
	}
	if life := k.lifeOf(); life > 0 {
		lead, cut := k.leadCut()
		s.LifeSeconds, s.LeadSeconds, s.LeadCut = life.Seconds(), lead.Seconds(), cut
	}
	step, next := decide(k.view(now))
	if k.queued != notQueued && len(tr.Hosts) > 0 {
		s.WaitingFor = tr.Hosts[0]
		next = max(next, k.a.limits.opens(tr, now.Boot, k.queued == queuedAsked))
	}
	if !k.isAsked(now) && !k.moved() {
		next = max(next, k.retryUntil)
	}
	if next != forever {
		s.NextRenewal = now.At(next)
	}
	s.NextStep = step
	s.Lapses = s.Valid && next > r.expiry
	for _, l := range []*lane{&k.login, &k.refresh} {
		if l.problem != nil {
			s.Problems = append(s.Problems, l.problem.at(l.notBefore, now))
		}
	}
	for _, d := range k.sinks {
		ss := SinkStatus{ID: d.sink.ID(), OK: d.err == nil, Errors: d.errs}
		if d.err != nil {
			ss.Error, ss.Since = d.err.Error(), d.failSince
			if e, ok := errors.AsType[syscall.Errno](d.err); ok {
				ss.Cause = e.Error()
			}
		}
		s.Sinks = append(s.Sinks, ss)
	}
	return s
}

// Overdue says that a renewal is late by more than half its lead.
func (t Token) Overdue() bool {
	k := t.k
	now := k.a.now()
	k.mu.Lock()
	defer k.mu.Unlock()
	due := k.rec.expiry - k.lead()
	return k.rec.has() && now.Boot > due+k.lead()/2
}

// countOK is the kind under which successful renewals are counted.
const countOK Kind = "ok"

var countedKinds = [...]Kind{countOK, Transient, Throttled, SessionOver, ClockOff, Rejected, Locked, NeedsHuman, Misconfigured, Ambiguous}

func (k *keeper) count(kind Kind) {
	for i, c := range countedKinds {
		if c == kind {
			k.counts[i]++
		}
	}
}

// Counters calls f with every renewal counter that is not zero: kind is "ok" or
// the Kind of a failure.
func (t Token) Counters(f func(kind Kind, n uint32)) {
	t.k.mu.Lock()
	counts := t.k.counts
	t.k.mu.Unlock()
	for i, n := range counts {
		if n > 0 {
			f(countedKinds[i], n)
		}
	}
}

// Reads calls f with every read counter.
func (t Token) Reads(f func(r ReadResult, n uint32)) {
	for i := range t.s.reads {
		f(ReadResult(i), t.s.reads[i].Load())
	}
}

// RenewalBuckets are the upper bounds, in seconds, of the renewal histogram.
var renewalBuckets = [...]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// stats are the agent's own numbers.
type stats struct {
	mu      sync.Mutex
	buckets [len(renewalBuckets) + 1]uint64
	sum     float64
	gap     time.Duration
	gaps    uint64
}

// Histogram is a cumulative histogram as Prometheus has it.
type Histogram struct {
	Bounds []float64
	Counts []uint64 // cumulative, one more than Bounds: the last is the total
	Sum    float64
}

func (a *Agent) observe(d time.Duration) {
	a.stats.mu.Lock()
	defer a.stats.mu.Unlock()
	i := 0
	for i < len(renewalBuckets) && d.Seconds() > renewalBuckets[i] {
		i++
	}
	a.stats.buckets[i]++
	a.stats.sum += d.Seconds()
}

// RenewalSeconds is how long renewals took, from the first request to the last
// answer.
func (a *Agent) RenewalSeconds() Histogram {
	a.stats.mu.Lock()
	defer a.stats.mu.Unlock()
	h := Histogram{Bounds: renewalBuckets[:], Sum: a.stats.sum}
	var n uint64
	for _, c := range a.stats.buckets {
		n += c
		h.Counts = append(h.Counts, n)
	}
	return h
}

// noteGap books how long a token that its server had killed was still what
// readers saw.
func (a *Agent) noteGap(d time.Duration) {
	a.stats.mu.Lock()
	defer a.stats.mu.Unlock()
	a.stats.gap, a.stats.gaps = d, a.stats.gaps+1
}

// Gap is the latest time between the answer that killed an old token and the new
// one's being delivered; ok is false where no source does that.
func (a *Agent) Gap() (d time.Duration, ok bool) {
	a.stats.mu.Lock()
	defer a.stats.mu.Unlock()
	return a.stats.gap, a.stats.gaps > 0
}

// skewTold is the skew beyond which the log says it.
const skewTold = 5 * time.Second

func (a *Agent) noteSkew(t *Traits, skew time.Duration) {
	if len(t.Hosts) == 0 {
		return
	}
	old, _ := a.skews.Load(t.Hosts[0])
	was, seen := old.(time.Duration)
	if seen && (skew-was).Abs() < time.Second {
		return // Date has whole seconds
	}
	a.skews.Store(t.Hosts[0], skew)
	if skew.Abs() > skewTold && (skew-was).Abs() > skewTold {
		a.log.Warn(MsgSkew, KeyHost, t.Hosts[0], KeySkew, skew.Round(time.Second))
	}
}

// Skews calls f with the latest skew seen of every host: its clock less ours.
func (a *Agent) Skews(f func(host string, skew time.Duration)) {
	a.skews.Range(func(h, d any) bool {
		f(h.(string), d.(time.Duration))
		return true
	})
}

// Waiting is how many renewals wait for each host's limits.
func (a *Agent) Waiting() map[string]int { return a.limits.waitingByHost() }
