//go:build !linux

package clock

import "time"

// kernelTimer does not exist here.
type kernelTimer struct{}

func newKernelTimer(func()) *kernelTimer { return nil }

func (*kernelTimer) set(time.Duration) {}
func (*kernelTimer) close()            {}

// Changes calls changed soon after each time that the wall clock was set or the
// machine woke up, until stop is called. ok is false where the system does not
// tell; then whoever wants to know must look.
func Changes(func()) (stop func(), ok bool) { return func() {}, false }
