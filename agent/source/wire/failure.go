package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
	"time"

	"renewd/agent"
)

var (
	errBody   = errors.New("answer too long")
	errHeader = errors.New("header block too long")
)

// failure says what it means that no whole answer came. The texts of the causes
// are never used: they may quote the server or the request.
func failure(err error, u *url.URL, timeout time.Duration, unsent bool) *agent.Error {
	e := &agent.Error{Kind: agent.Transient, Unsent: unsent, Err: err}
	host := hostPort(u)
	say := func(format string, args ...any) *agent.Error {
		e.Detail = fmt.Sprintf(format, args...)
		return e
	}
	if certificate(err, e, host) {
		return e
	}
	_, isDNS := errors.AsType[*net.DNSError](err)
	op, isOp := errors.AsType[*net.OpError](err)
	_, isTLS := errors.AsType[tls.RecordHeaderError](err)
	_, isAlert := errors.AsType[tls.AlertError](err)
	switch {
	case errors.Is(err, errBody):
		e.Kind, e.Hint = agent.Misconfigured, "no answer with a token is that long: look at the URL"
		return say("%s answered more than %d bytes", host, MaxBody)
	case errors.Is(err, errHeader), strings.Contains(err.Error(), "server response headers exceeded"), strings.Contains(err.Error(), "header list"):
		e.Kind, e.Hint = agent.Misconfigured, "no answer with a token has that many: look at the URL"
		return say("%s answered a header block above %d bytes", host, MaxHeader)
	case errors.Is(err, context.DeadlineExceeded):
		return say("%s gave no whole answer within %v", host, timeout)
	case errors.Is(err, context.Canceled):
		return say("the request to %s was given up", host)
	case isDNS:
		return say("the name of %s is not known here", host)
	case isOp && strings.HasPrefix(op.Op, "proxyconnect"), isOp && op.Op == "socks connect":
		e.Hint = "look at `proxy`"
		return say("the proxy did not connect to %s", host)
	case isTLS:
		e.Kind, e.Hint = agent.Misconfigured, "look at the port, and at http:// or https:// in the URL"
		return say("%s does not speak TLS", host)
	case isAlert, strings.Contains(err.Error(), "tls: "):
		e.Kind, e.Hint = agent.Misconfigured, "TLS 1.2 or newer is needed; the server may want a client certificate (tls.cert_file)"
		return say("%s and we agree on no TLS connection", host)
	case errors.Is(err, syscall.ECONNREFUSED):
		return say("%s refuses connections", host)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return say("%s broke the connection", host)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return say("%s ended its answer too early", host)
	case isOp && op.Op == "dial":
		return say("%s cannot be reached", host)
	}
	return say("no whole answer came from %s", host)
}

// certificate fills e where err is about the server's certificate: that is the
// admin's matter, and another try changes nothing.
func certificate(err error, e *agent.Error, host string) bool {
	e2, isPin := errors.AsType[*PinError](err)
	if isPin {
		e.Kind, e.Unsent = agent.Misconfigured, true
		e.Detail = fmt.Sprintf("%s shows another key than the pinned ones", host)
		e.Hint = "if that is right: pin_sha256: [" + e2.Got + "]"
		return true
	}
	v, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok {
		return false
	}
	e.Kind, e.Unsent = agent.Misconfigured, true
	pin := ""
	if len(v.UnverifiedCertificates) > 0 {
		pin = Pin(v.UnverifiedCertificates[0])
	}
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, name := errors.AsType[x509.HostnameError](err)
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case unknown:
		e.Detail = fmt.Sprintf("the certificate of %s is signed by nobody we know", host)
		e.Hint = "tls: {ca_file: …}, or after comparing it with the server's own, tls: {pin_sha256: [" + pin + "]}"
	case name:
		e.Detail = fmt.Sprintf("the certificate of %s is for another name", host)
		e.Hint = "use that name in the URL, or tls: {server_name: …}"
	case isInvalid && invalid.Reason == x509.Expired:
		e.Detail = fmt.Sprintf("the certificate of %s has expired or is not yet valid", host)
		e.Hint = "renew it, or look at this machine's clock"
	default:
		e.Detail = fmt.Sprintf("the certificate of %s is not valid", host)
		e.Hint = "tls: {ca_file: …} or tls: {pin_sha256: [" + pin + "]}"
	}
	return true
}
