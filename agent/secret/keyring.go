package secret

import (
	"context"
	"errors"
	"fmt"
	"time"

	"renewd/agent"
	"renewd/platform/keyring"
)

// getter reads an entry of a keyring, as keyring.Get does.
type getter func(ctx context.Context, service, account string) (string, error)

func readKeyring(ctx context.Context, name string, get getter) (agent.Secret, error) {
	service, account, err := keyringEntry(name)
	if err != nil {
		return agent.Secret{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	text, err := get(ctx, service, account)
	if errors.Is(err, keyring.ErrNotFound) {
		return agent.Secret{}, fmt.Errorf("read keyring %q: %w; make it with: %s", name, err, keyring.HowToStore(service, account))
	}
	if err != nil {
		return agent.Secret{}, fmt.Errorf("read keyring %q: %w", name, err)
	}
	return clean(fmt.Sprintf("keyring entry %q", name), []byte(text), false)
}

// lost is after how long a question that nobody answered no longer keeps others
// from being asked: the keyring may have gone away under it.
const lost = 15 * time.Minute

// asker asks a keyring one question at a time. A locked one answers with a dialog
// on someone's screen, which stays there when nobody waits for it any more: each
// token and each try would add another.
type asker struct {
	get  getter
	turn chan struct{} // of size 1
}

func (a *asker) ask(ctx context.Context, service, account string) (string, error) {
	unanswered := errors.New("the keyring did not answer, it may be locked")
	select {
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		return "", unanswered
	}
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		defer func() { <-a.turn }()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lost)
		defer cancel()
		text, err := a.get(ctx, service, account)
		answers <- answer{text, err}
	}()
	select {
	case got := <-answers:
		return got.text, got.err
	case <-ctx.Done():
		return "", unanswered
	}
}
