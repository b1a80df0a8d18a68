package main

import (
	"strings"

	"renewd/sink/socket"
)

// configError says why the config as it is on disk is not the running one.
func (d *daemon) configError() string {
	p := d.problems.Load()
	if p == nil || !p.Fatal() {
		return ""
	}
	for _, x := range *p {
		if !x.Warn {
			return x.String()
		}
	}
	return ""
}

// about is what status says to managers beside the tokens.
func (d *daemon) about() socket.About {
	a := socket.About{Config: d.configPath, State: "sealed with " + d.state.SealedBy()}
	if c := d.confined.Load(); c != nil {
		a.Process, a.Warnings = c.String(), c.replaced()
	}
	if p := d.privilege; p != nil {
		a.Process = strings.TrimPrefix(a.Process+"; "+p.String(), "; ")
	}
	if p := d.problems.Load(); p != nil {
		for _, x := range *p {
			if x.Warn {
				a.Warnings = append(a.Warnings, x.String())
			}
		}
	}
	return a
}
