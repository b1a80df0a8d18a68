// Package keyring reads and writes secrets where a user's session keeps them: the
// Secret Service of a desktop on Linux, Windows Credential Manager, the macOS
// Keychain. An entry is named by a service and an account.
package keyring

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/zalando/go-keyring"
)

// ErrNotFound means that the keyring answers and has no such entry.
var ErrNotFound = errors.New("the keyring has no such entry")

// Get reads an entry. A keyring that is locked may ask its user for a password
// first; Get waits for that only until ctx ends. Its errors never hold the secret.
func Get(ctx context.Context, service, account string) (string, error) {
	return wait(ctx, func() (string, error) { return keyring.Get(service, account) })
}

// HowToStore is a command that makes an entry and asks for the secret, to be told
// to people.
func HowToStore(service, account string) string {
	return fmt.Sprintf(storeWith, word(service), word(account))
}

// word is s as a shell takes it for one word.
func word(s string) string {
	plain := !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._@+-/", r)
	})
	if plain {
		return s
	}
	return quote + strings.ReplaceAll(s, quote, quoteInside) + quote
}

// Set writes an entry, over the one that is there.
func Set(ctx context.Context, service, account, secret string) error {
	_, err := wait(ctx, func() (string, error) { return "", keyring.Set(service, account, secret) })
	return err
}

// wait asks the keyring and leaves it alone when ctx ends: its interfaces know no
// deadline, and what a dialog waits for cannot be taken back.
func wait(ctx context.Context, ask func() (string, error)) (string, error) {
	if err := reachable(); err != nil {
		return "", err
	}
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		text, err := ask()
		answers <- answer{text, err}
	}()
	select {
	case a := <-answers:
		if errors.Is(a.err, keyring.ErrNotFound) {
			return "", ErrNotFound
		}
		return decoded(a.text), a.err
	case <-ctx.Done():
		return "", fmt.Errorf("the keyring did not answer, it may be locked: %w", ctx.Err())
	}
}
