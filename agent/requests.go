package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// savedRequests is what the state knows of a host's window, so that neither a
// restart nor a crash loop sends more than the window allows.
type savedRequests struct {
	Saved Mark            `json:"at"`
	Per   time.Duration   `json:"per"`
	Sent  []time.Duration `json:"sent,omitempty"` // on the boot clock that Saved reads
	Asked []time.Duration `json:"asked,omitempty"`
	Ahead int             `json:"ahead,omitempty"` // more may have been sent by the time this is read
}

// load takes over what earlier processes sent.
func (l *limiter) load(store Store, now Instant) error {
	return store.Load(BucketHosts, func(name string, value []byte) error {
		var s savedRequests
		if err := json.Unmarshal(value, &s); err != nil {
			return fmt.Errorf("read the requests sent to %q: %w", name, err)
		}
		h := newHost()
		h.sent, h.asked = s.times(s.Sent, now, l.bootID), s.times(s.Asked, now, l.bootID)
		for range s.Ahead {
			h.sent = append(h.sent, now.Boot)
		}
		if len(h.sent) > 0 {
			l.hosts[name] = h
		}
		return nil
	})
}

// times are those of at that the window still holds, none of them in the future.
func (s *savedRequests) times(at []time.Duration, now Instant, bootID string) []time.Duration {
	var kept []time.Duration
	for _, t := range at {
		if t = min(s.Saved.at(t).boot(now, bootID), now.Boot); t > now.Boot-s.Per {
			kept = append(kept, t)
		}
	}
	return kept
}

// keep makes durable what was booked for a host, before it is sent. It writes
// ahead, so that most requests need no write: what a process leaves unused counts
// as sent by the next one, unless it settles. Nobody waits longer than patience, and after a write that
// failed nobody waits for a while. An error says that a crash would forget requests; this process does
// not.
func (l *limiter) keep(ctx context.Context, now Instant, t *Traits, patience time.Duration) error {
	if len(t.Hosts) == 0 {
		return nil
	}
	l.mu.Lock()
	h := l.host(t.Hosts[0], t.Limits)
	kept := h.ahead >= 0 || now.Boot < h.later
	l.mu.Unlock()
	if kept {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case h.writing <- struct{}{}:
		defer func() { <-h.writing }()
	case <-ctx.Done():
		return errSlow
	}
	l.mu.Lock()
	if h.ahead >= 0 || now.Boot < h.later { // whoever wrote meanwhile wrote this request too, or in vain
		l.mu.Unlock()
		return nil
	}
	more := h.block() - h.ahead
	value, err := h.encode(now, l.bootID, h.block())
	l.mu.Unlock()
	if err != nil {
		return err
	}
	err = l.save(ctx, patience, Change{BucketHosts, t.Hosts[0], value})
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		h.later = now.Boot + saveRetry
		return fmt.Errorf("write the requests sent to %q: %w", t.Hosts[0], err)
	}
	h.ahead += more
	return nil
}

// settle takes back what was written ahead and is not going to be sent.
func (l *limiter) settle(ctx context.Context, now Instant, patience time.Duration) error {
	var changes []Change
	l.mu.Lock()
	for name, h := range l.hosts {
		if h.ahead <= 0 {
			continue
		}
		value, err := h.encode(now, l.bootID, 0)
		if err != nil {
			l.mu.Unlock()
			return err
		}
		h.ahead = 0
		changes = append(changes, Change{BucketHosts, name, value})
	}
	l.mu.Unlock()
	if len(changes) == 0 {
		return nil
	}
	return l.save(ctx, patience, changes...)
}

// encode is the host as it is stored.
func (h *host) encode(now Instant, bootID string, ahead int) ([]byte, error) {
	h.prune(now.Boot)
	return json.Marshal(savedRequests{Saved: now.mark(now.Boot, bootID), Per: h.lim.Per, Sent: h.sent, Asked: h.asked, Ahead: ahead})
}

// block is how many requests are written ahead: no more than this process has
// sent, so that a crash loop at most doubles what is counted, and an eighth of
// the window.
func (h *host) block() int { return min(h.booked, h.lim.Requests/8) }
