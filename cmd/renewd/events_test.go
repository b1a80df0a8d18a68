package main

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"renewd/agent"
)

// told is an event log that remembers.
type told struct{ events []string }

func (t *told) Info(id uint32, text string) error    { return t.add("info", id, text) }
func (t *told) Warning(id uint32, text string) error { return t.add("warning", id, text) }
func (t *told) Error(id uint32, text string) error   { return t.add("error", id, text) }
func (t *told) Close() error                         { return nil }

func (t *told) add(level string, id uint32, text string) error {
	t.events = append(t.events, fmt.Sprintf("%s %d %s", level, id, text))
	return nil
}

// Each record is one event with its level and id, whatever the format that the
// config asks for; what is written beside the log is an error.
func TestTheLogBecomesEvents(t *testing.T) {
	to := &told{}
	out := newLogQueue(&eventLog{to})
	log, _ := newLog(out, "info", "json")
	log.Info(agent.MsgRenewed, agent.KeyToken, "a")
	log.With(agent.KeyToken, "b").Warn(agent.MsgProblem, agent.KeyKind, agent.Transient)
	log.Error(agent.MsgProblem)
	log.Debug("nobody wants to know")
	log.Warn("something new", agent.KeyError, "two\nlines")
	fmt.Fprintf(out, "renewd: error: the config cannot be used\nrenewd: hint: mend it\n\n")
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`info 10 msg="token renewed" token=a`,
		`warning 13 msg="renewal failed" token=b kind=transient`,
		`error 13 msg="renewal failed"`,
		`warning 2 msg="something new" error="two\nlines"`,
		`error 3 renewd: error: the config cannot be used`,
		`error 3 renewd: hint: mend it`,
	}
	if !slices.Equal(to.events, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(to.events, "\n"), strings.Join(want, "\n"))
	}
}

// The message file has texts for the ids from 1 to 1000, and each fact has its own.
func TestEventIDsAreTold(t *testing.T) {
	seen := map[int]string{}
	for _, msg := range []string{agent.MsgRenewed, agent.MsgRestored, agent.MsgLapsed, agent.MsgProblem, agent.MsgPersonNeeded, agent.MsgSinkFailed,
		agent.MsgSinkRecovered, agent.MsgStateFailed, agent.MsgStateSaved, agent.MsgLoggedOut, agent.MsgLogoutFailed, agent.MsgClockStepped,
		agent.MsgResumed, agent.MsgSkew, agent.MsgApplied, agent.MsgIdle, agent.MsgRejected, msgStarted, msgStops, msgStopped, msgRefused} {
		id := eventID(prefix(slog.LevelInfo), msg)
		if other, ok := seen[id]; ok || id <= eventError || id > 1000 {
			t.Errorf("%q has the id %d, as has %q", msg, id, other)
		}
		seen[id] = msg
	}
}
