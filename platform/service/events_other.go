//go:build !windows

package service

import "errors"

// Events is an event log; this system has none.
type Events struct{}

// OpenEvents returns errors.ErrUnsupported.
func OpenEvents(string) (*Events, error) { return nil, errors.ErrUnsupported }

// Info, Warning and Error write one event.
func (e *Events) Info(uint32, string) error    { return errors.ErrUnsupported }
func (e *Events) Warning(uint32, string) error { return errors.ErrUnsupported }
func (e *Events) Error(uint32, string) error   { return errors.ErrUnsupported }

// Close closes it.
func (e *Events) Close() error { return nil }
