package config

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"renewd/agent/source/http"
	"renewd/agent/source/spec"
)

// validate judges what the decoded text says as a whole. Everything wrong is
// told at once.
func (c *Config) validate() Problems {
	v := &validator{c: c}
	if v.at = c.main; v.at.text != nil {
		v.settings()
	}
	for _, name := range slices.Sorted(maps.Keys(c.Tokens)) {
		v.token(name, c.Tokens[name])
	}
	return v.problems
}

type validator struct {
	c        *Config
	at       Place
	problems Problems
}

func (v *validator) add(pl Place, path, hint, format string, args ...any) {
	v.problems = append(v.problems, pl.Problem(spec.Problem{Path: path, Msg: fmt.Sprintf(format, args...), Hint: hint}))
}

// oneOf judges a word.
func (v *validator) oneOf(pl Place, path, value string, allowed ...string) {
	if value != "" && !slices.Contains(allowed, value) {
		v.add(pl, path, spec.Meant(value, allowed), "%q is not known", value)
	}
}

func (v *validator) duration(pl Place, path string, d spec.Duration) {
	if _, err := d.Parse(); err != nil {
		v.add(pl, path, "", "%v", err)
	}
}

func (v *validator) settings() {
	c := v.c
	v.oneOf(v.at, "log.level", c.Log.Level, "debug", "info", "warn", "error")
	v.oneOf(v.at, "log.format", c.Log.Format, "auto", "text", "json")
	v.oneOf(v.at, "policy.insecure", c.Policy.Insecure, "refuse")
	v.oneOf(v.at, "policy.plain_secrets", c.Policy.PlainSecrets, "refuse")
	v.oneOf(v.at, "landlock", c.Landlock, "auto", "none")
	if l := c.Metrics.Listen; l != "" {
		host, port, err := net.SplitHostPort(l)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n > 65535 {
			v.add(v.at, "metrics.listen", "write 127.0.0.1:9464", "is no address with a port")
		} else if ip := net.ParseIP(host); !c.Metrics.Expose && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			v.add(v.at, "metrics.listen", "listen on 127.0.0.1, or add expose: true", "would be reachable from other machines")
		}
	}
	v.proxy(v.at, "defaults.proxy", c.Defaults.Proxy)
	for _, name := range slices.Sorted(maps.Keys(c.Hosts)) {
		l, at := c.Hosts[name], spec.Key("hosts", name)
		if name == "" || strings.ContainsAny(name, "/ @") {
			v.add(v.at, at, "write the name alone, or name:port", "is no host")
		}
		if l.Concurrency < 0 || l.Concurrency > 10000 {
			v.add(v.at, at+".concurrency", "", "want 1 to 10000")
		}
	}
}

func (v *validator) proxy(pl Place, path, value string) {
	if value == "" || value == "none" {
		return
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" {
		v.add(pl, path, "write http://host:port, or none", "is no proxy's URL")
	} else if u.User != nil {
		v.add(pl, path, "use a proxy that knows this machine", "credentials in a proxy's URL are not supported")
	}
}

func (v *validator) token(name string, t *Token) {
	if !isTokenName(name) {
		v.add(t.place, "", "use a-z, 0-9, '.', '_' and '-', at most 64, a letter or digit first", "is no name for a token")
	}
	v.duration(t.place, "renew.before", t.Renew.Before)
	v.duration(t.place, "renew.min_interval", t.Renew.MinInterval)
	if d, err := t.Renew.MinInterval.Parse(); err == nil && d != 0 && d.Milliseconds() < 100 {
		v.add(t.place, "renew.min_interval", "", "want at least 100ms")
	}
	for i, r := range t.Readers {
		v.oneOf(t.place, spec.Index("readers", i), r, Readers()...)
	}
	for i := range t.Sinks {
		v.sink(t, i)
	}
	v.source(t)
}

// source judges only that the type is known; the rest is the source's.
func (v *validator) source(t *Token) {
	s := &t.Source
	if s.Type == "" || s.Use == nil {
		return
	}
	known := append(http.Presets(), slices.Sorted(maps.Keys(v.c.Presets))...)
	if !slices.Contains(known, s.Type) {
		hint := cmp.Or(spec.Meant(s.Type, append(known, types...)), "`renewd presets` lists the vendors it knows; beside them there are "+strings.Join(types, ", "))
		v.add(s.place, "type", hint, "%q is no source", s.Type)
	}
}

func (v *validator) sink(t *Token, i int) {
	s, at := &t.Sinks[i], spec.Index("sinks", i)
	switch s.Type {
	case "file":
	case "":
		v.add(t.place, at, "write type: file", "has no type")
		return
	default:
		v.add(t.place, at+".type", spec.Meant(s.Type, []string{"file"}), "%q is no sink", s.Type)
		return
	}
	v.oneOf(t.place, at+".on_expiry", s.OnExpiry, "keep", "remove")
	v.oneOf(t.place, at+".on_stop", s.OnStop, "keep", "remove")
}

// readers are consumers that refresh or discard a token when it has less life
// left than this.
var readers = map[string]time.Duration{
	"google-auth": 5 * time.Minute, "aws-sdk": 10 * time.Minute, "kubernetes": 5 * time.Minute,
}

// ReaderNeeds is how much life a consumer that `readers:` knows wants a token to
// have left, 0 for an unknown one.
func ReaderNeeds(name string) time.Duration { return readers[name] }

// Readers lists the consumers that `readers:` knows.
func Readers() []string { return slices.Sorted(maps.Keys(readers)) }
