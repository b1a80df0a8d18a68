package agent

import (
	"context"
	"runtime"
	"slices"
	"sync"
)

// Store keeps what must survive a restart: opaque values by bucket and key.
// Implementations seal values; the agent never stores a secret elsewhere.
type Store interface {
	// Load calls f with every entry of a bucket, in no order. The value is only
	// valid during the call. An unknown bucket is empty, not an error.
	Load(bucket string, f func(key string, value []byte) error) error

	// Get returns one entry, nil where there is none.
	Get(bucket, key string) ([]byte, error)

	// Save applies all changes or none and returns when they are durable, or with
	// ctx's error when it ends before: the changes may still come through, since
	// what is on its way to a disk cannot be called back. Either way the values
	// are the caller's again. It is called by many goroutines at once and should
	// commit them in groups.
	Save(ctx context.Context, changes ...Change) error
}

// Change sets or, with a nil Value, deletes one entry.
type Change struct {
	Bucket, Key string
	Value       []byte
}

// Buckets that the agent uses.
const (
	BucketTokens  = "tokens"  // one record a token: session, generation, clocks
	BucketLedger  = "ledger"  // one entry a credential
	BucketHosts   = "hosts"   // requests lately sent to each host that has a window of them
	BucketLogouts = "logouts" // logouts still owed
	BucketMeta    = "meta"    // numbers of the whole state
)

// loadEach calls decode with every entry of a bucket, on all processors at once and
// in no order: decoding is most of a restart with a hundred thousand tokens, which
// know nothing of each other. The first error is returned.
func loadEach(store Store, bucket string, decode func(key string, value []byte) error) error {
	type entry struct {
		key   string
		value []byte
	}
	work := make(chan entry, 256)
	failed := make(chan error, 1)
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for e := range work {
				if err := decode(e.key, e.value); err != nil {
					select {
					case failed <- err:
					default: // one is enough
					}
				}
			}
		})
	}
	err := store.Load(bucket, func(key string, value []byte) error {
		if len(failed) > 0 {
			return <-failed
		}
		work <- entry{key, slices.Clone(value)}
		return nil
	})
	close(work)
	all.Wait()
	if err == nil && len(failed) > 0 {
		err = <-failed
	}
	return err
}
