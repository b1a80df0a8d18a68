package main

import (
	"bytes"
	"strconv"

	"renewd/agent"
	"renewd/platform/service"
)

// eventLog is Windows' event log as a place to write lines to: one event each.
// A record of the log begins with its priority and its event's id; what else is
// written is an error that a person is to read.
type eventLog struct {
	to interface {
		Info(id uint32, text string) error
		Warning(id uint32, text string) error
		Error(id uint32, text string) error
		Close() error
	}
}

func openEvents() (*eventLog, error) {
	to, err := service.OpenEvents(serviceName)
	if err != nil {
		return nil, fail(exitFailed, "", "%w", err)
	}
	return &eventLog{to}, nil
}

// Write never fails: there is nowhere to tell it.
func (e *eventLog) Write(lines []byte) (int, error) {
	for line := range bytes.Lines(lines) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			continue
		}
		priority, id, text := eventOf(line)
		switch {
		case priority <= '3':
			_ = e.to.Error(id, text)
		case priority == '4':
			_ = e.to.Warning(id, text)
		default:
			_ = e.to.Info(id, text)
		}
	}
	return len(lines), nil
}

func (e *eventLog) Close() error { return e.to.Close() }

// eventOf takes "<4>13 text" apart.
func eventOf(line []byte) (priority byte, id uint32, text string) {
	if len(line) > 3 && line[0] == '<' && line[2] == '>' {
		if number, rest, ok := bytes.Cut(line[3:], []byte(" ")); ok {
			if n, err := strconv.ParseUint(string(number), 10, 10); err == nil && n > 0 {
				return line[1], uint32(n), string(rest)
			}
		}
	}
	return '3', eventError, string(line)
}

// Ids of events that have no message of their own, by their level.
const (
	eventInfo    = 1
	eventWarning = 2
	eventError   = 3
)

// eventID is the id of a message's events. Ids are part of the contract with who
// filters by them: they are never used again for something else.
func eventID(priority, message string) int {
	switch message {
	case agent.MsgRenewed:
		return 10
	case agent.MsgRestored:
		return 11
	case agent.MsgLapsed:
		return 12
	case agent.MsgProblem:
		return 13
	case agent.MsgPersonNeeded:
		return 14
	case agent.MsgRejected:
		return 15
	case agent.MsgLoggedOut:
		return 16
	case agent.MsgLogoutFailed:
		return 17
	case agent.MsgSinkFailed:
		return 20
	case agent.MsgSinkRecovered:
		return 21
	case agent.MsgStateFailed:
		return 22
	case agent.MsgStateSaved:
		return 23
	case agent.MsgClockStepped:
		return 30
	case agent.MsgResumed:
		return 31
	case agent.MsgSkew:
		return 32
	case agent.MsgApplied:
		return 40
	case agent.MsgIdle:
		return 41
	case msgRefused:
		return 42
	case msgStarted:
		return 50
	case msgStops:
		return 51
	case msgStopped:
		return 52
	}
	switch priority {
	case "<3>":
		return eventError
	case "<4>":
		return eventWarning
	}
	return eventInfo
}
