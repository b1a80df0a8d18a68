//go:build !windows

package service

import (
	"context"
	"fmt"

	"github.com/kardianos/service"
)

// privileged is whose rights it takes to change the machine's service.
const privileged = "root"

// program is what a manager starts and stops.
type program struct {
	main   func(context.Context) error
	cancel context.CancelFunc
	ended  chan struct{}
	err    error
}

func (p *program) Start(service.Service) error {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() {
		p.err = p.main(ctx)
		close(p.ended)
	}()
	return nil
}

func (p *program) Stop(service.Service) error {
	p.cancel()
	<-p.ended
	return nil
}

// Run runs main until the manager or ctx stops it, and returns main's error. The
// manager hears of a failure by the exit code; code is for one that does not.
func Run(ctx context.Context, name string, _ func(error) int, main func(context.Context, *Notifier) error) error {
	n := NewNotifier()
	if service.Interactive() {
		return main(ctx, n)
	}
	p := &program{main: func(ctx context.Context) error { return main(ctx, n) }, ended: make(chan struct{})}
	s, err := service.New(p, &service.Config{Name: name, Option: service.KeyValue{"RunWait": func() {
		select {
		case <-ctx.Done():
		case <-p.ended:
		}
	}}})
	if err != nil {
		return main(ctx, n) // no manager that is known
	}
	if err := s.Run(); err != nil {
		return fmt.Errorf("talk to the service manager: %w", err)
	}
	return p.err
}
