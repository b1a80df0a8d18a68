package state

import (
	"crypto/rand"
	"errors"
	"slices"
)

// aad binds a value to its state, bucket and key: sealed bytes that were copied
// elsewhere do not open there.
func (db *DB) aad(bucket, key string) []byte {
	b := make([]byte, 0, len(db.id)+len(bucket)+len(key)+2)
	b = append(b, db.id...)
	b = append(b, 0)
	b = append(b, bucket...)
	b = append(b, 0)
	return append(b, key...)
}

// seal appends the sealed value to b, which is empty.
func (db *DB) seal(b []byte, bucket, key string, plain []byte) []byte {
	n := db.aead.NonceSize()
	b = slices.Grow(b, n+len(plain)+db.aead.Overhead())
	nonce := b[:n]
	_, _ = rand.Read(nonce)
	return db.aead.Seal(nonce, nonce, plain, db.aad(bucket, key))
}

func (db *DB) open(bucket, key string, sealed []byte) ([]byte, error) {
	n := db.aead.NonceSize()
	if len(sealed) < n {
		return nil, errors.New("sealed value is too short")
	}
	return db.aead.Open(nil, sealed[:n], sealed[n:], db.aad(bucket, key))
}
