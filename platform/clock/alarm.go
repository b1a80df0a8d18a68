package clock

import "time"

// Alarm rings on C once a span that was Set has passed. Setting it again replaces
// what was set; a ring that was already on its way may still come. It is for one
// goroutine at a time.
//
// On Linux a long span is left to a timer of the kernel's own (timerfd_create(2))
// on the boot clock. A timer of package time would not ring during the time that a
// suspend took, and it lets an idle process wake dozens of times for one ring: the
// kernel lets a wait in epoll overrun by a thousandth, and Go's monitor thread,
// which is woken in time, looks every 20 microseconds whether the timer has run.
// Where the spans are short, that thread has something to wait for in any case and
// a timer of package time is the cheaper one.
type Alarm struct {
	rings chan struct{}
	short *time.Timer
	long  *kernelTimer // nil: the system gives none
	far   bool         // long is set
}

const shortSpan = time.Second // what is shorter is short

// NewAlarm gives an Alarm that is not set.
func NewAlarm() *Alarm {
	a := &Alarm{rings: make(chan struct{}, 1)}
	a.long = newKernelTimer(a.ring)
	a.short = time.AfterFunc(time.Hour, a.ring)
	a.short.Stop()
	return a
}

// C is where it rings.
func (a *Alarm) C() <-chan struct{} { return a.rings }

// Set has it ring after d, at once where d is not above 0.
func (a *Alarm) Set(d time.Duration) {
	far := d >= shortSpan && a.long != nil
	switch {
	case far:
		a.short.Stop()
		a.long.set(d)
	case a.far:
		a.long.set(0)
		fallthrough
	default:
		a.short.Reset(d)
	}
	a.far = far
}

// Stop ends it for good.
func (a *Alarm) Stop() {
	a.short.Stop()
	if a.long != nil {
		a.long.close()
	}
}

func (a *Alarm) ring() {
	select {
	case a.rings <- struct{}{}:
	default: // it rings already
	}
}
