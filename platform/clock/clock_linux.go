package clock

import (
	"crypto/rand"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Boot is the time since boot, suspend included (clock_gettime(2), CLOCK_BOOTTIME).
func Boot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Linux has had the clock since 2.6.39; only a broken seccomp filter
		// takes it away, and guessing at time would publish dead tokens.
		panic("read the boot clock: " + err.Error())
	}
	return time.Duration(ts.Nano())
}

// BootID names this boot. Where it is not known every call gives another value,
// so that no two boots are ever taken for one: read it once per process.
func BootID() string {
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		if id := strings.TrimSpace(string(b)); id != "" {
			return id
		}
	}
	return rand.Text()
}
