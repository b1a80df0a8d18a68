package wire

// Transports are the kept connections of all sources, one pool a TLS and proxy
// setting.
type Transports struct{}
