package seal

import (
	"context"

	"renewd/platform/keyring"
)

// Sealers are the ways to seal of this system, the best first; none: the key file
// holds the key itself. A user's own agent runs in a session, where the Keychain
// is open; a daemon of the machine has none that opens by itself.
func Sealers(machine bool) []*Sealer {
	if machine {
		return nil
	}
	const service, account = "renewd", "state key"
	return []*Sealer{kept("Keychain", entry{
		get: func(ctx context.Context) (string, error) { return keyring.Get(ctx, service, account) },
		set: func(ctx context.Context, s string) error { return keyring.Set(ctx, service, account, s) },
	})}
}
