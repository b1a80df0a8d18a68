package main

import (
	"context"
	"os"
	"time"

	"renewd/agent/config"
)

// What a process has given up nothing brings back, and no process that it starts
// has it either. Where a manager starts the agent again whenever it ends, a config
// that needs such a thing has the agent stop, and the next process runs it.

const msgAgain = "config needs what this process gave up; starting again with the new config"

// settling is how long the agent waits before it starts again by itself for a file
// that changed: who wrote the file may write another, or is asking for a reload.
const settling = time.Second

// startedAgain says that the manager starts the agent again whenever it ends. It
// cannot be seen, so our units say it. Not so where root was given up: the next
// process would decide on that anew, and may refuse the config.
func (d *daemon) startedAgain() bool {
	return os.Getenv("RENEWD_RESTART") == "always" && (d.privilege == nil || d.privilege.user == "")
}

// leave notes that another process is to run a good config.
func (d *daemon) leave(b *built) {
	d.next = b
	p := b.beyond[0]
	if p.Path != "" {
		p.Msg = p.Path + " " + p.Msg
	}
	d.log.Info(msgAgain, "reason", p.Msg)
}

// untilStopped reloads the config when it changes or a signal asks for it, until
// the agent is to end; again: for another process that runs the new config.
func (d *daemon) untilStopped(ctx context.Context, audit func(bool)) (again bool) {
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return false
		case <-d.again:
			again = true
		case <-settled:
			again = true
		case <-d.hup:
			// systemctl reload has had it checked by a process that can read all of it.
			_, again = d.reload(true)
			settled = nil
		case <-d.changed:
			settled = nil
			if _, later := d.reload(false); later {
				settled = time.After(settling)
			}
		}
		if again && d.leaves() {
			return true
		}
		again = false // the config was put back meanwhile
		audit(d.audit.Load())
	}
}

// leaves settles that the agent is to end, unless the config needs that no more.
func (d *daemon) leaves() bool {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	d.leaving = d.next != nil
	return d.leaving
}

// superseded ends what the process that follows this one does not know of. All else
// stays for it as it is.
func (d *daemon) superseded(ctx context.Context) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	if !d.next.unread {
		d.agent.Superseded(ctx, d.next.specs)
	}
}

// refuseMoves refuses to change along with a start of the agent what would make it
// another: at another socket or with another state.
func refuseMoves(problems config.Problems) {
	for i := range problems {
		if p := &problems[i]; p.Path != "log.format" {
			p.Warn, p.Msg = false, "differs from what the agent started with; to start again for the rest of the config would move its sockets or its state"
			p.Hint = "restart the agent"
		}
	}
}
