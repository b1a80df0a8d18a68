package service

import (
	"fmt"

	"golang.org/x/sys/windows/svc/eventlog"
)

// Events is the machine's event log, to which the service's name is a source.
type Events struct{ log *eventlog.Log }

// OpenEvents opens it. That the source is registered is install's work; where it
// is not, the log still takes what is told, and says that it lacks its text.
func OpenEvents(name string) (*Events, error) {
	l, err := eventlog.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open the event log: %w", err)
	}
	return &Events{l}, nil
}

// Info, Warning and Error write one event. The id is 1 to 1000: the source's
// texts are EventCreate.exe's, which has no others.
func (e *Events) Info(id uint32, text string) error    { return e.log.Info(id, text) }
func (e *Events) Warning(id uint32, text string) error { return e.log.Warning(id, text) }
func (e *Events) Error(id uint32, text string) error   { return e.log.Error(id, text) }

// Close closes it.
func (e *Events) Close() error { return e.log.Close() }
