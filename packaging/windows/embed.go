// Package windows holds what renewd gives to Windows' service manager.
package windows

import _ "embed"

// Service is the machine's service: its account, start and recovery.
//
//go:embed service.json
var Service []byte
