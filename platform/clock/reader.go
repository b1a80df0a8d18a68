package clock

import (
	"sync/atomic"
	"time"
)

const (
	believed = time.Millisecond      // how long one reading of Boot is carried on
	blurred  = 20 * time.Microsecond // a reading that took longer is not: we were interrupted in it
)

// Reader gives Boot at the price of time.Now: on Linux the boot clock costs a
// system call, and an agent of a hundred thousand tokens reads it at every turn.
// Between two readings a millisecond apart it goes by package time's monotonic
// clock, so a resume from suspend shows a millisecond late. The zero Reader is
// ready; its method may be called by many goroutines.
type Reader struct{ last atomic.Pointer[reading] }

type reading struct {
	at   time.Time
	boot time.Duration
}

// Boot is the time since boot, sleep included.
func (r *Reader) Boot() time.Duration { return r.bootAt(time.Now(), Boot) }

func (r *Reader) bootAt(now time.Time, read func() time.Duration) time.Duration {
	if l := r.last.Load(); l != nil {
		if d := now.Sub(l.at); d >= 0 && d < believed {
			return l.boot + d
		}
	}
	boot := read()
	if time.Since(now) < blurred {
		r.last.Store(&reading{now, boot})
	}
	return boot
}
