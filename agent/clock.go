package agent

import "time"

// Instant is one moment read from two clocks. Wall is what people, files and
// servers speak of; it may step. Boot counts from some fixed point, goes on
// while the machine sleeps and never steps: every deadline is held on it.
type Instant struct {
	Wall time.Time
	Boot time.Duration
}

// Clock reads the current instant.
type Clock func() Instant

// At gives the wall time at which the boot clock will read boot, as seen from i.
func (i Instant) At(boot time.Duration) time.Time { return i.Wall.Add(boot - i.Boot) }

// offset is how far the wall clock is ahead of the boot clock.
func (i Instant) offset() time.Duration { return time.Duration(i.Wall.UnixNano()) - i.Boot }

// Mark is an Instant that outlives the process: BootID tells whether Boot still
// means anything.
type Mark struct {
	Wall   time.Time     `json:"wall"`
	Boot   time.Duration `json:"boot"`
	BootID string        `json:"boot_id"`
}

// mark saves the boot-clock reading boot; the zero Mark stands for "no such time".
func (i Instant) mark(boot time.Duration, bootID string) Mark {
	if boot == 0 {
		return Mark{}
	}
	return Mark{Wall: i.At(boot), Boot: boot, BootID: bootID}
}

// at is the Mark of another reading of m's boot clock.
func (m Mark) at(boot time.Duration) Mark {
	if boot == 0 {
		return Mark{}
	}
	return Mark{Wall: m.Wall.Add(boot - m.Boot), Boot: boot, BootID: m.BootID}
}

// offset is Instant.offset at the moment of m.
func (m Mark) offset() time.Duration { return time.Duration(m.Wall.UnixNano()) - m.Boot }

// boot restores a saved reading: exact within one boot, by the wall clock after
// a reboot. It returns 0 for the zero Mark.
func (m Mark) boot(now Instant, bootID string) time.Duration {
	switch {
	case m == Mark{}:
		return 0
	case m.BootID == bootID:
		return m.Boot
	default:
		b := now.Boot + m.Wall.Sub(now.Wall)
		if b == 0 {
			b = -1 // 0 means unset; a nanosecond is no loss
		}
		return b
	}
}
