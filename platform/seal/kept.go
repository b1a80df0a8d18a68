package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"renewd/platform/keyring"
)

// patience is how long a keyring may take, its user's answer included.
const patience = 10 * time.Second

// entry is one entry of a keyring.
type entry struct {
	get func(context.Context) (string, error)
	set func(context.Context, string) error
}

// kept wraps with AES-256-GCM under a secret that an entry of a keyring holds.
func kept(name string, e entry) *Sealer {
	return &Sealer{
		name: name,
		seal: func(key []byte) ([]byte, error) {
			aead, err := e.aead(true)
			if err != nil {
				return nil, fmt.Errorf("seal with %s: %w", name, err)
			}
			nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(key)+aead.Overhead())
			_, _ = rand.Read(nonce)
			return aead.Seal(nonce, nonce, key, nil), nil
		},
		open: func(sealed []byte) ([]byte, error) {
			aead, err := e.aead(false)
			if errors.Is(err, keyring.ErrNotFound) {
				err = fmt.Errorf("%w: %w", ErrOther, err)
			}
			if err != nil {
				return nil, fmt.Errorf("open with %s: %w", name, err)
			}
			n := aead.NonceSize()
			if len(sealed) < n {
				return nil, fmt.Errorf("open with %s: %w", name, ErrOther)
			}
			key, err := aead.Open(nil, sealed[:n], sealed[n:], nil)
			if err != nil {
				return nil, fmt.Errorf("open with %s: %w", name, ErrOther)
			}
			return key, nil
		},
	}
}

// aead reads the entry's secret; make lets it be made where there is none.
func (e entry) aead(make bool) (cipher.AEAD, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	text, err := e.get(ctx)
	if errors.Is(err, keyring.ErrNotFound) && make {
		var fresh [32]byte
		_, _ = rand.Read(fresh[:])
		text = base64.StdEncoding.EncodeToString(fresh[:])
		err = e.set(ctx, text)
	}
	if err != nil {
		return nil, err
	}
	secret, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("the keyring's entry is not what was put there")
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, errors.New("the keyring's entry is not what was put there")
	}
	return cipher.NewGCM(block)
}
