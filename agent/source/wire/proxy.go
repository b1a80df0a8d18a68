package wire

import (
	"errors"
	"io/fs"
	"net"
	nethttp "net/http"
	"net/netip"
	"net/url"
	"strings"

	"renewd/agent/source/spec"
)

// proxyFunc says which proxy a request goes through: the declared one, never
// one of the environment; none for loopback and what noProxy names.
func proxyFunc(proxy string, noProxy []string, p *spec.Problems) func(*nethttp.Request) (*url.URL, error) {
	if proxy == "" || proxy == "none" {
		return nil
	}
	u, err := url.Parse(proxy)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" {
		// The text is not shown: it may hold a password.
		p.Add("proxy", "is no URL of a proxy").Hint = "write http://HOST:PORT, https://, socks5:// or none"
		return nil
	}
	return func(r *nethttp.Request) (*url.URL, error) {
		if Loopback(r.URL.Hostname()) || exempt(r.URL, noProxy) {
			return nil, nil
		}
		return u, nil
	}
}

// exempt matches a host against names (and all below them), addresses and
// CIDR prefixes, each with or without a port, and "*".
func exempt(u *url.URL, list []string) bool {
	host := strings.ToLower(u.Hostname())
	addr, addrErr := netip.ParseAddr(host)
	for _, e := range list {
		e = strings.ToLower(strings.TrimSpace(e))
		if h, port, err := net.SplitHostPort(e); err == nil {
			if !strings.HasSuffix(hostPort(u), ":"+port) {
				continue
			}
			e = h
		}
		if e == "*" {
			return true
		}
		if pre, err := netip.ParsePrefix(e); err == nil {
			if addrErr == nil && pre.Contains(addr.Unmap()) {
				return true
			}
			continue
		}
		e = strings.TrimPrefix(strings.TrimPrefix(e, "*"), ".")
		if e != "" && (host == e || strings.HasSuffix(host, "."+e)) {
			return true
		}
	}
	return false
}

// Loopback reports whether a host is this machine's loopback by its name.
func Loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

func unwrapPath(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}
