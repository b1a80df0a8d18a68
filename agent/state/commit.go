package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"renewd/agent"
)

// request is sealed changes and where to answer. It is used again once it was
// answered: thousands a second are too much to leave behind.
type request struct {
	changes []agent.Change
	sealed  [][]byte // room for the changes' values
	err     chan error
}

var requests = sync.Pool{New: func() any { return &request{err: make(chan error, 1)} }}

// fill seals changes into r.
func (r *request) fill(db *DB, changes []agent.Change) {
	r.changes = append(r.changes[:0], changes...)
	for len(r.sealed) < len(changes) {
		r.sealed = append(r.sealed, nil)
	}
	for i := range r.changes {
		if c := &r.changes[i]; c.Value != nil {
			r.sealed[i] = db.seal(r.sealed[i][:0], c.Bucket, c.Key, c.Value)
			c.Value = r.sealed[i]
		}
	}
}

// Save implements agent.Store.
func (db *DB) Save(ctx context.Context, changes ...agent.Change) error {
	r := requests.Get().(*request)
	r.fill(db, changes)
	select {
	case db.requests <- r:
	case <-db.done:
		return errors.New("the state is closed")
	case <-ctx.Done():
		return fmt.Errorf("wait for the state's disk: %w", ctx.Err())
	}
	select {
	case err := <-r.err:
		requests.Put(r)
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the state's disk: %w", ctx.Err())
	case <-db.done:
		select {
		case err := <-r.err: // answered while the state was being closed
			return err
		default:
			return errors.New("the state is closed")
		}
	}
}

// commit is the one writer: it takes whatever has gathered since the last flush.
func (db *DB) commit() {
	defer close(db.done)
	busy := false
	for r := range db.requests {
		if r == nil {
			return
		}
		group, stop := db.gather(r, busy)
		busy = len(group) > 1
		err := db.write(group)
		if err != nil && len(group) > 1 {
			for _, r := range group { // one bad change must not fail the others
				r.err <- db.write([]*request{r})
			}
		} else {
			for _, r := range group {
				r.err <- err
			}
		}
		if stop {
			return
		}
	}
}

const (
	mostGrouped = 1024
	pause       = time.Millisecond // that nobody saves in ends a group
	pauses      = 5                // of them in which someone saved do too
)

// gather takes what waits. While many save at once it lets them gather: a flush
// costs as much CPU time as ten saves. Who saves alone waits for nobody.
func (db *DB) gather(first *request, busy bool) (group []*request, stop bool) {
	group = append(group, first)
	for waits := 0; ; waits++ {
		before := len(group)
		for len(group) < mostGrouped && len(db.requests) > 0 {
			r := <-db.requests
			if r == nil {
				return group, true
			}
			group = append(group, r)
		}
		if !busy || waits > 0 && len(group) == before || waits == pauses || len(group) == mostGrouped {
			return group, false
		}
		time.Sleep(pause)
	}
}

func (db *DB) write(group []*request) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	path := filepath.Join(db.dir, dbName)
	defer guard(path, &err)
	if fi, err := os.Stat(path); err != nil || !os.SameFile(fi, db.file) {
		// What is written to a file without a name is lost at the next start.
		return fmt.Errorf("state %s was removed or replaced while the agent runs: restart the agent", path)
	}
	return db.bolt.Update(func(tx *bolt.Tx) error {
		for _, r := range group {
			for _, c := range r.changes {
				b, err := tx.CreateBucketIfNotExists([]byte(c.Bucket))
				if err != nil {
					return err
				}
				if c.Value == nil {
					err = b.Delete([]byte(c.Key))
				} else {
					err = b.Put([]byte(c.Key), c.Value)
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}
