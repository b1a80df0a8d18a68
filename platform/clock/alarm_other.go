//go:build !linux

package clock

func (*Alarm) ofSystem() bool { return false }

// Changes calls changed soon after each time that the wall clock was set or the
// machine woke up, until stop is called. ok is false where the system does not
// tell; then whoever wants to know must look.
func Changes(func()) (stop func(), ok bool) { return func() {}, false }
