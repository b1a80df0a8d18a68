// Package state keeps what an agent must not lose over a restart, in one bbolt
// file whose values are sealed with AES-256-GCM. It implements agent.Store.
//
// Saves are made durable in groups: while one commit is being flushed the next
// ones gather, and go to disk together. A value is bound to its state, bucket
// and key, so that a sealed value copied elsewhere does not open.
//
// The package is also the lock of the state: a second agent is refused and told
// who holds it.
package state

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"renewd/agent"
)

const (
	dbName  = "state.db"
	keyName = "state.key"
	pidName = "state.pid"

	version = 1
	keySize = 32
)

var (
	headerBucket = []byte("header")
	checkValue   = []byte("renewd state")
)

// HeldError says that another agent runs on the state.
type HeldError struct {
	Dir string
	PID int // 0 when it is not known
}

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("state in %s is in use by another agent", e.Dir)
	}
	return fmt.Sprintf("state in %s is in use by another agent, process %d", e.Dir, e.PID)
}

// BrokenError says that the state cannot be used as it is. It is left untouched;
// Reset puts it aside.
type BrokenError struct {
	Path string
	Why  string
}

func (e *BrokenError) Error() string {
	return fmt.Sprintf("state %s cannot be used: %s", e.Path, e.Why)
}

// Options say where the state is and what seals it.
type Options struct {
	Dir string
	Key agent.Secret // 32 bytes in base64 or hex, or any longer text; unset: a key file in Dir

	// Sealers wrap the key in its file, the best first; none: the file is the key.
	Sealers []Sealer
}

// DB is an open state. Its methods may be called by many goroutines.
type DB struct {
	dir      string
	file     os.FileInfo // of the database as it was opened
	bolt     *bolt.DB
	aead     cipher.AEAD
	id       []byte
	sealedBy string
	requests chan *request
	done     chan struct{}
}

// Open opens or makes the state in o.Dir, which must exist. It returns a
// *HeldError or a *BrokenError where that is the reason.
func Open(o Options) (*DB, error) {
	path := filepath.Join(o.Dir, dbName)
	existed := true
	if fi, err := os.Stat(path); errors.Is(err, os.ErrNotExist) || err == nil && fi.Size() == 0 {
		existed = false
	} else if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	if existed {
		if err := whole(path, o.Dir); err != nil {
			return nil, err
		}
	}
	b, err := bolt.Open(path, 0o600, &bolt.Options{
		Timeout: 200 * time.Millisecond, NoFreelistSync: true, FreelistType: bolt.FreelistMapType,
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, &HeldError{o.Dir, readPID(o.Dir)}
	case err != nil && existed && !errors.Is(err, os.ErrPermission):
		return nil, &BrokenError{path, err.Error()}
	case err != nil:
		return nil, fmt.Errorf("open state: %w", err)
	}
	db := &DB{dir: o.Dir, bolt: b, requests: make(chan *request, 1024), done: make(chan struct{})}
	err = db.unlock(o, existed, path)
	if err == nil {
		db.file, err = os.Stat(path)
	}
	if err != nil {
		_ = b.Close()
		return nil, err
	}
	// Only for people: the lock itself is the database's.
	_ = os.WriteFile(filepath.Join(o.Dir, pidName), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)
	go db.commit()
	return db, nil
}

// whole refuses a file that is shorter than it says it is: bbolt maps it, and
// touching a missing page would kill the process.
func whole(path, dir string) (err error) {
	defer guard(path, &err)
	ro, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: 200 * time.Millisecond})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return &HeldError{dir, readPID(dir)}
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("open state: %w", err)
	case err != nil:
		return &BrokenError{path, err.Error()}
	}
	defer ro.Close()
	fi, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("open state: %w", err)
	}
	return ro.View(func(tx *bolt.Tx) error {
		if tx.Size() > fi.Size() {
			return &BrokenError{path, fmt.Sprintf("it is truncated: %d bytes of %d", fi.Size(), tx.Size())}
		}
		return nil
	})
}

// guard turns the panic or fault of a damaged database into a BrokenError.
func guard(path string, err *error) {
	if r := recover(); r != nil {
		*err = &BrokenError{path, "it is damaged"}
	}
}

// unlock reads the header, or writes it into a new state.
func (db *DB) unlock(o Options, existed bool, path string) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer guard(path, &err)
	fresh := true
	var ver uint64
	var check []byte
	err = db.bolt.View(func(tx *bolt.Tx) error {
		if h := tx.Bucket(headerBucket); h != nil {
			fresh = false
			v := h.Get([]byte("version"))
			if len(v) == 8 {
				ver = binary.BigEndian.Uint64(v)
			}
			db.id = append([]byte(nil), h.Get([]byte("id"))...)
			check = append([]byte(nil), h.Get([]byte("check"))...)
		} else if name, _ := tx.Cursor().First(); name != nil {
			fresh = false // buckets, but none of ours
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !fresh && ver != version {
		if ver > version {
			return &BrokenError{path, fmt.Sprintf("it was written by a newer renewd (format %d, this one knows %d)", ver, version)}
		}
		return &BrokenError{path, "it is not a renewd state"}
	}
	key, err := db.key(o, fresh)
	if err != nil {
		return err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	if db.aead, err = cipher.NewGCM(block); err != nil {
		return err
	}
	if !fresh {
		if plain, err := db.open("header", "check", check); err != nil || string(plain) != string(checkValue) {
			return &BrokenError{path, "it is sealed with another key than " + db.sealedBy}
		}
		return nil
	}
	db.id = make([]byte, 16)
	_, _ = rand.Read(db.id)
	err = db.bolt.Update(func(tx *bolt.Tx) error {
		h, err := tx.CreateBucketIfNotExists(headerBucket)
		if err != nil {
			return err
		}
		return errors.Join(h.Put([]byte("version"), binary.BigEndian.AppendUint64(nil, version)),
			h.Put([]byte("id"), db.id), h.Put([]byte("check"), db.seal(nil, "header", "check", checkValue)))
	})
	if err != nil {
		return err
	}
	return syncDir(o.Dir)
}

// SealedBy says what the key is kept in, for status.
func (db *DB) SealedBy() string { return db.sealedBy }

// Load implements agent.Store.
func (db *DB) Load(bucket string, f func(key string, value []byte) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer guard(filepath.Join(db.dir, dbName), &err)
	return db.bolt.View(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, sealed []byte) error {
			plain, err := db.open(bucket, string(k), sealed)
			if err != nil {
				return &BrokenError{filepath.Join(db.dir, dbName), fmt.Sprintf("the entry %s/%s is damaged", bucket, k)}
			}
			return f(string(k), plain)
		})
	})
}

// Get implements agent.Store.
func (db *DB) Get(bucket, key string) (plain []byte, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer guard(filepath.Join(db.dir, dbName), &err)
	err = db.bolt.View(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		sealed := b.Get([]byte(key))
		if sealed == nil {
			return nil
		}
		var err error
		if plain, err = db.open(bucket, key, sealed); err != nil {
			return &BrokenError{filepath.Join(db.dir, dbName), fmt.Sprintf("the entry %s/%s is damaged", bucket, key)}
		}
		return nil
	})
	return plain, err
}

// Close waits for the saves under way and closes the state.
func (db *DB) Close() error {
	db.requests <- nil
	<-db.done
	_ = os.Remove(filepath.Join(db.dir, pidName))
	return db.bolt.Close()
}

func readPID(dir string) int {
	b, err := os.ReadFile(filepath.Join(dir, pidName))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}
