package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	bolt "go.etcd.io/bbolt"

	"renewd/agent"
)

func open(t *testing.T, dir string) *DB {
	t.Helper()
	db, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func read(t *testing.T, db *DB, bucket string) map[string]string {
	t.Helper()
	m := map[string]string{}
	if err := db.Load(bucket, func(k string, v []byte) error { m[k] = string(v); return nil }); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSavedValuesSurviveAndAreSealed(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := db.Save(context.Background(), agent.Change{Bucket: "tokens", Key: fmt.Sprint(i), Value: []byte(fmt.Sprintf("very-secret-%d", i))}); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if err := db.Save(context.Background(), agent.Change{Bucket: "tokens", Key: "0"}, agent.Change{Bucket: "ledger", Key: "a", Value: []byte("b")}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, dbName))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("very-secret")) {
		t.Error("a value is in the file in clear")
	}
	db = open(t, dir)
	defer db.Close()
	got := read(t, db, "tokens")
	if len(got) != 199 || got["7"] != "very-secret-7" {
		t.Errorf("%d values came back, token 7 as %q", len(got), got["7"])
	}
	if got := read(t, db, "ledger"); got["a"] != "b" {
		t.Errorf("ledger: %v", got)
	}
	ownAlone(t, filepath.Join(dir, dbName), filepath.Join(dir, keyName))
}

func TestSecondAgentIsRefusedAndToldWho(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	defer db.Close()
	_, err := Open(Options{Dir: dir})
	held, ok := errors.AsType[*HeldError](err)
	if !ok || held.PID != os.Getpid() {
		t.Fatalf("second open: %v", err)
	}
	if _, err := Reset(dir, true); err == nil {
		t.Fatal("a state in use was reset")
	}
}

// damage makes one broken state each; all must be refused, kept byte for byte,
// and put aside by Reset.
func TestBrokenStatesAreRefusedAndKept(t *testing.T) {
	cases := map[string]struct {
		damage func(t *testing.T, dir string)
		says   string
	}{
		"truncated": {func(t *testing.T, dir string) { truncate(t, dir, 3) }, "truncated"},
		"nearly empty": {func(t *testing.T, dir string) {
			must(t, os.Truncate(filepath.Join(dir, dbName), 100))
		}, ""},
		"garbage": {func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, dbName), bytes.Repeat([]byte("garbage "), 4096), 0o600))
		}, ""},
		"other key": {func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, keyName), bytes.Repeat([]byte{7}, keySize), 0o600))
		}, "another key"},
		"no key":    {func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, keyName))) }, "missing"},
		"short key": {func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, keyName), 5)) }, "32 bytes"},
		"newer": {func(t *testing.T, dir string) {
			b, err := bolt.Open(filepath.Join(dir, dbName), 0o600, nil)
			must(t, err)
			must(t, b.Update(func(tx *bolt.Tx) error {
				return tx.Bucket(headerBucket).Put([]byte("version"), []byte{0, 0, 0, 0, 0, 0, 0, 2})
			}))
			must(t, b.Close())
		}, "newer"},
		"foreign": {func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, dbName)))
			b, err := bolt.Open(filepath.Join(dir, dbName), 0o600, nil)
			must(t, err)
			must(t, b.Update(func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("x")); return err }))
			must(t, b.Close())
		}, "not a renewd state"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db := open(t, dir)
			for i := range 50 {
				must(t, db.Save(context.Background(), agent.Change{Bucket: "tokens", Key: fmt.Sprint(i), Value: bytes.Repeat([]byte("x"), 2000)}))
			}
			must(t, db.Close())
			c.damage(t, dir)
			before, _ := os.ReadFile(filepath.Join(dir, dbName))
			_, err := Open(Options{Dir: dir})
			if _, ok := errors.AsType[*BrokenError](err); !ok || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("open: %v, want a BrokenError that says %q", err, c.says)
			}
			if after, _ := os.ReadFile(filepath.Join(dir, dbName)); !bytes.Equal(before, after) {
				t.Fatal("the broken state was changed")
			}
			aside, err := Reset(dir, true)
			must(t, err)
			if kept, _ := os.ReadFile(aside); !bytes.Equal(before, kept) {
				t.Fatal("the broken state was not kept whole")
			}
			db = open(t, dir)
			must(t, db.Close())
		})
	}
}

func TestSwappedValuesDoNotOpen(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	must(t, db.Save(context.Background(), agent.Change{Bucket: "tokens", Key: "a", Value: []byte("A")}, agent.Change{Bucket: "tokens", Key: "b", Value: []byte("B")}))
	must(t, db.bolt.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("tokens"))
		return b.Put([]byte("a"), bytes.Clone(b.Get([]byte("b"))))
	}))
	defer db.Close()
	if err := db.Load("tokens", func(string, []byte) error { return nil }); err == nil {
		t.Fatal("token b's record opened as token a's")
	}
}

func truncate(t *testing.T, dir string, divisor int64) {
	fi, err := os.Stat(filepath.Join(dir, dbName))
	must(t, err)
	must(t, os.Truncate(filepath.Join(dir, dbName), fi.Size()/divisor))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func BenchmarkSave(b *testing.B) {
	for _, writers := range []int{1, 32} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			db, err := Open(Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			value := bytes.Repeat([]byte("x"), 2000)
			b.SetParallelism(writers)
			var n sync.Mutex
			i := 0
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					n.Lock()
					i++
					key := fmt.Sprint(i % 1000)
					n.Unlock()
					if err := db.Save(context.Background(), agent.Change{Bucket: "tokens", Key: key, Value: value}); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
