package clock

import (
	"crypto/rand"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Boot is the time since boot, sleep included. On macOS it is CLOCK_MONOTONIC
// that counts sleep (clock_gettime(3)); CLOCK_UPTIME_RAW does not.
func Boot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("read the boot clock: " + err.Error())
	}
	return time.Duration(ts.Nano())
}

// BootID names this boot. kern.boottime is the second choice because it moves
// when the wall clock is set; then the wall clock decides, which is the safe way
// round. Read it once per process.
func BootID() string {
	if id, err := unix.Sysctl("kern.bootsessionuuid"); err == nil && id != "" {
		return id
	}
	if tv, err := unix.SysctlTimeval("kern.boottime"); err == nil {
		return fmt.Sprintf("boottime-%d", tv.Sec)
	}
	return rand.Text()
}
