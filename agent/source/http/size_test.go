package http_test

import (
	"fmt"
	"runtime"
	"testing"

	"renewd/agent/secret"
	"renewd/agent/source/http"
	"renewd/agent/source/spec"
	"renewd/agent/source/wire"
)

// A token costs its input values: what tokens of one preset have in common is
// there once. The bound includes the texts of user name and password.
func TestBytesPerToken(t *testing.T) {
	const n = 10_000
	p := compile(t, "commander", preset(t, "commander"))
	env := &http.Env{Now: clock, Secrets: secret.NewResolver(), Transports: wire.NewTransports(wire.Options{Clock: clock})}
	all := make([]*http.Source, n)
	used := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := used()
	for i := range all {
		src, problems := p.Bind(map[string]spec.Value{
			"url": {V: "https://vendor.example/rest/v3"}, "username": {V: fmt.Sprintf("user-%06d", i)}, "password": {V: fmt.Sprintf("password-%06d", i)},
		}, nil, env)
		if src == nil {
			t.Fatal(problems)
		}
		all[i] = src
	}
	each := (used() - before) / n
	t.Logf("%d bytes a token", each)
	if each > 400 {
		t.Errorf("%d bytes a token", each)
	}
	runtime.KeepAlive(all)
}
