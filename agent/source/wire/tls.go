// Package wire sends the requests of sources: shared transports, TLS settings,
// redirects, limits on what an answer may be, and what a failure to get one
// means. It knows nothing of tokens.
package wire

import "renewd/agent/secret"

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
