//go:build !linux && !darwin && !windows

package clock

import (
	"crypto/rand"
	"time"
)

var start = time.Now()

// Boot is the larger of the wall and the monotonic time since the process
// started: whichever clock missed a suspend, a token is never taken for younger
// than it is.
func Boot() time.Duration {
	now := time.Now()
	// Round(0) strips the monotonic reading, so that Sub goes by the wall clock.
	return max(now.Sub(start), now.Round(0).Sub(start.Round(0))) + 1
}

// BootID never equals an earlier one: no reading outlives the process. Read it
// once per process.
func BootID() string { return rand.Text() }
