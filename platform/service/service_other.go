//go:build !linux && !darwin && !windows

package service

func (s *Service) install() error        { return ErrNoManager }
func (s *Service) uninstall() error      { return ErrNoManager }
func (s *Service) control(string) error  { return ErrNoManager }
func (s *Service) state() (State, error) { return State{}, ErrNoManager }
