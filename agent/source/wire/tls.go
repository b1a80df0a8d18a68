// Package wire sends the requests of sources: shared transports, TLS settings,
// redirects, limits on what an answer may be, and what a failure to get one
// means. It knows nothing of tokens.
package wire

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"

	"renewd/agent/secret"
	"renewd/agent/source/spec"
)

// TLS says how a server is trusted. Zero means: the system's roots, TLS 1.2.
type TLS struct {
	CAFile     secret.Path `yaml:"ca_file"`     // PEM; trusted instead of the system's roots
	PinSHA256  []string    `yaml:"pin_sha256"`  // base64 SHA-256 of the leaf's SPKI; replaces chain, name and dates
	ServerName string      `yaml:"server_name"` // name in the certificate and in SNI
	MinVersion string      `yaml:"min_version"` // "1.2" or "1.3"
	CertFile   secret.Path `yaml:"cert_file"`   // client certificate, PEM
	KeyFile    secret.Path `yaml:"key_file"`    // its key, PEM
	Insecure   *bool       `yaml:"insecure"`    // trust anything; loud
	Plaintext  *bool       `yaml:"plaintext"`   // allow http:// beyond loopback; loud
}

// Over returns t with what is set in o in its place, key by key.
func (t TLS) Over(o *TLS) TLS {
	if o == nil {
		return t
	}
	set := func(dst *secret.Path, v secret.Path) {
		if v != "" {
			*dst = v
		}
	}
	set(&t.CAFile, o.CAFile)
	set(&t.CertFile, o.CertFile)
	set(&t.KeyFile, o.KeyFile)
	if len(o.PinSHA256) > 0 {
		t.PinSHA256 = o.PinSHA256
	}
	if o.ServerName != "" {
		t.ServerName = o.ServerName
	}
	if o.MinVersion != "" {
		t.MinVersion = o.MinVersion
	}
	if o.Insecure != nil {
		t.Insecure = o.Insecure
	}
	if o.Plaintext != nil {
		t.Plaintext = o.Plaintext
	}
	return t
}

func isTrue(b *bool) bool { return b != nil && *b }

// config checks t and makes crypto/tls's of it; ca is what CAFile held.
func (t TLS) config(p *spec.Problems) (c *tls.Config, ca []byte) {
	c = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	switch t.MinVersion {
	case "", "1.2":
	case "1.3":
		c.MinVersion = tls.VersionTLS13
	default:
		p.Add("tls.min_version", "%q is not allowed", t.MinVersion).Hint = `write "1.2" or "1.3"`
	}
	if t.CAFile != "" {
		var err error
		if ca, err = readFile(string(t.CAFile)); err != nil {
			p.Add("tls.ca_file", "%v", err)
		}
		c.RootCAs = x509.NewCertPool()
		if err == nil && !c.RootCAs.AppendCertsFromPEM(ca) {
			p.Add("tls.ca_file", "%q holds no certificate in PEM", t.CAFile)
		}
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		p.Add("tls", "cert_file and key_file go together")
	} else if t.CertFile != "" {
		if _, err := tls.LoadX509KeyPair(string(t.CertFile), string(t.KeyFile)); err != nil {
			p.Add("tls.cert_file", "cannot be used with its key file").Hint = "both in PEM, the key without a passphrase"
		}
	}
	if isTrue(t.Plaintext) {
		w := p.Add("tls.plaintext", "credentials may be sent without encryption")
		w.Warn = true
	}
	t.trust(c, p)
	return c, ca
}

// trust sets how the server is judged where not by its chain and name.
func (t TLS) trust(c *tls.Config, p *spec.Problems) {
	pins := map[string]bool{}
	for i, pin := range t.PinSHA256 {
		b, err := base64.StdEncoding.DecodeString(pin)
		if err != nil || len(b) != sha256.Size {
			p.Add(spec.Index("tls.pin_sha256", i), "is no SHA-256 in base64").Hint = "`renewd check --login` prints the pin of a server"
			continue
		}
		pins[pin] = true
	}
	switch {
	case len(t.PinSHA256) > 0:
		c.InsecureSkipVerify = true // the pin replaces chain, name and dates
		c.VerifyConnection = func(s tls.ConnectionState) error {
			got := Pin(s.PeerCertificates[0])
			if !pins[got] {
				return &PinError{Got: got}
			}
			return nil
		}
	case isTrue(t.Insecure):
		c.InsecureSkipVerify = true
		w := p.Add("tls.insecure", "the server's certificate is not checked: anyone on the way can read the credentials")
		w.Warn, w.Hint = true, "use pin_sha256 instead; `renewd check --login` prints the pin"
	}
}

// Pin is the base64 SHA-256 of a certificate's public key (SPKI).
func Pin(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// PinError says that a server showed another key than the pinned ones.
type PinError struct{ Got string }

func (e *PinError) Error() string { return "the server's key is not a pinned one: " + e.Got }
