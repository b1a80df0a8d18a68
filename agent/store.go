package agent

import "context"

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
