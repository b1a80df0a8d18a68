package service

import (
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// patience is how long a manager that does not read is waited for: what is said
// to it is never worth more than the tokens.
const patience = 50 * time.Millisecond

// Notifier tells the manager how the service is (sd_notify(3)). Where no manager
// listens it does nothing; so does a nil one.
type Notifier struct {
	socket   string
	watchdog time.Duration
	ready    func() // Windows' manager wants to know; nil elsewhere
	stores   bool   // the manager keeps sockets

	mu        sync.Mutex
	stopping  bool
	status    string
	fed       time.Time
	inherited map[string]*os.File // of an earlier process, by name; until asked for
	stored    map[string]bool     // names that the manager has
}

// NewNotifier reads the environment that the manager gave this process.
func NewNotifier() *Notifier {
	n := &Notifier{socket: os.Getenv("NOTIFY_SOCKET"), inherited: inherited(), stored: map[string]bool{}}
	n.stores = n.socket != "" && stores()
	for name := range n.inherited {
		n.stored[name] = true
	}
	if d, err := daemon.SdWatchdogEnabled(false); err == nil && n.socket != "" {
		n.watchdog = d
	}
	return n
}

// Managed says that Windows' service manager started this process: it is the
// machine's agent, whatever account it runs as, and has no standard error.
func (n *Notifier) Managed() bool { return n != nil && n.ready != nil }

// On says whether somebody listens.
func (n *Notifier) On() bool { return n != nil && n.socket != "" }

// Stores says whether the manager keeps sockets for the service's next process.
func (n *Notifier) Stores() bool { return n != nil && n.stores }

// AliveEvery is how often Alive must be called; 0 where nobody counts.
func (n *Notifier) AliveEvery() time.Duration {
	if n == nil {
		return 0
	}
	return n.watchdog / 2 // as sd_watchdog_enabled(3) has it
}

// Ready ends the start, or a reload.
func (n *Notifier) Ready(status string) {
	if n.Managed() {
		n.ready()
	}
	if n.begin() {
		defer n.mu.Unlock()
		n.status = status
		n.send("READY=1\nSTATUS=" + oneLine(status))
	}
}

// Reloading begins a reload. The time lets the manager tell this reload from
// the one before (Type=notify-reload).
func (n *Notifier) Reloading() {
	if n.begin() {
		defer n.mu.Unlock()
		n.status = ""
		n.send("RELOADING=1\n" + daemon.SdNotifyMonotonicUsec())
	}
}

// Stopping begins the stop; nothing is said after it.
func (n *Notifier) Stopping(status string) {
	if n.begin() {
		defer n.mu.Unlock()
		n.stopping = true
		n.send("STOPPING=1\nSTATUS=" + oneLine(status))
	}
}

// Status says in one line how the service is, where that changed.
func (n *Notifier) Status(status string) {
	if n.begin() {
		defer n.mu.Unlock()
		if status != n.status {
			n.status = status
			n.send("STATUS=" + oneLine(status))
		}
	}
}

// Alive feeds the watchdog. It may be called as often as one likes.
func (n *Notifier) Alive() {
	if n == nil || n.watchdog == 0 || !n.begin() {
		return
	}
	defer n.mu.Unlock()
	if now := time.Now(); now.Sub(n.fed) > n.watchdog/8 {
		n.fed = now
		n.send("WATCHDOG=1")
	}
}

// begin takes the lock where there is something to say.
func (n *Notifier) begin() bool {
	if !n.On() {
		return false
	}
	n.mu.Lock()
	if n.stopping {
		n.mu.Unlock()
		return false
	}
	return true
}

// send writes one datagram; that it fails changes nothing for anyone.
func (n *Notifier) send(state string) {
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	_, _ = c.Write([]byte(state))
}

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", " ") }
