package oauth2

import (
	"context"

	"renewd/agent"
)

// SignIn implements agent.PersonSource.
func (p person) SignIn(ctx context.Context, show func(agent.Prompt)) (*agent.Grant, error) {
	return p.signIn(ctx, show)
}

// SignIn implements agent.PersonSource.
func (p personProver) SignIn(ctx context.Context, show func(agent.Prompt)) (*agent.Grant, error) {
	return p.signIn(ctx, show)
}

func (s *Source) signIn(ctx context.Context, show func(agent.Prompt)) (*agent.Grant, error) {
	return nil, s.needsPerson()
}
