package main

import (
	"testing"
	"time"

	"renewd/agent"
	"renewd/agent/config"
	"renewd/platform/paths"
)

func TestStatusLineSaysHowAllIs(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	in := func(d time.Duration) time.Time { return now.Add(d) }
	good := agent.Status{Name: "a", Valid: true, State: agent.StateValid, NextRenewal: in(12*time.Second + 400*time.Millisecond)}
	held := agent.Status{Name: "c", State: agent.StateHeld, NextRenewal: in(35 * time.Minute), Problems: []agent.Problem{{Kind: agent.Rejected, Detail: "hunter2"}, {Kind: agent.SessionOver}}}
	full := good
	full.Name, full.Sinks = "d", []agent.SinkStatus{{ID: "file", Error: "write \"/secret/place\": no space left on device", Cause: "no space left on device"}}
	for _, c := range []struct {
		tokens []agent.Status
		sum    summary
		want   string
	}{
		{nil, summary{}, "no tokens in the config"},
		{[]agent.Status{good}, summary{}, "1 token, next renewal in 12 s"},
		{[]agent.Status{good, good, good}, summary{}, "3 tokens, next renewal in 12 s"},
		{[]agent.Status{held}, summary{}, "1 token, 1 not valid (c: rejected), next renewal in 35 min, see: renewd status"},
		{[]agent.Status{full, held}, summary{}, "2 tokens, 1 not valid (c: rejected), 1 cannot be written (d: no space left on device), next renewal in 12 s, see: renewd status"},
		{[]agent.Status{good, full}, summary{}, "2 tokens, 1 cannot be written (d: no space left on device), next renewal in 12 s, see: renewd status"},
		{[]agent.Status{good}, summary{outOfReach: 2}, "1 token, a directory was replaced and is out of reach until a restart, next renewal in 12 s, see: renewd status"},
		{[]agent.Status{good}, summary{configRefused: true, stateFails: true}, "1 token, the config on disk is refused and an older one runs, the state cannot be written, next renewal in 12 s, see: renewd status"},
	} {
		s := c.sum
		for _, st := range c.tokens {
			s.add(st)
		}
		if got := s.text(now); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}

// What the unit lacks for a config is what the drop-in says: nothing for sinks
// below its own directories.
func TestDropInIsWhatTheUnitLacks(t *testing.T) {
	set := paths.Set{Runtime: "/run/renewd", State: "/var/lib/renewd"}
	cfg := func(socketGroup string, sinks ...config.Sink) *config.Config {
		return &config.Config{Socket: config.Socket{Group: socketGroup}, Tokens: map[string]*config.Token{"a": {Sinks: sinks}}}
	}
	for _, c := range []struct {
		cfg  *config.Config
		want string
	}{
		{cfg("", config.Sink{Path: "/run/renewd/tokens/a"}, config.Sink{}, config.Sink{Path: "/var/lib/renewd/x", Group: "renewd"}), ""},
		{cfg("", config.Sink{Path: "/srv/app/token"}), "[Service]\nReadWritePaths=/srv/app\n"},
		{cfg("", config.Sink{Group: "ops"}), "[Service]\nSupplementaryGroups=ops\nSystemCallFilter=@chown\n"},
		{cfg("adm"), "[Service]\nSupplementaryGroups=adm\nSystemCallFilter=@chown\n"},
	} {
		if got := dropIn(c.cfg, set); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}
