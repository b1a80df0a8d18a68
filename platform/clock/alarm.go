package clock

import "time"

// Alarm rings on C once a span that was Set has passed. Setting it again replaces
// what was set; a ring that was already on its way may still come. It is for one
// goroutine at a time.
//
// On Linux it is a timer of the kernel's own (timerfd_create(2)) on the boot clock.
// A timer of package time would not ring during the time that a suspend took, and
// it lets an idle process wake dozens of times for one ring: the kernel lets a wait
// in epoll overrun by a thousandth, and Go's monitor thread, which is woken in
// time, looks every 20 microseconds whether the timer has run. Elsewhere, or where
// the kernel gives none, it is a timer of package time.
type Alarm struct {
	rings chan struct{}
	set   func(time.Duration)
	stop  func()
}

// NewAlarm gives an Alarm that is not set.
func NewAlarm() *Alarm {
	a := &Alarm{rings: make(chan struct{}, 1)}
	if !a.ofSystem() {
		t := time.AfterFunc(0, a.ring)
		t.Stop()
		a.set, a.stop = func(d time.Duration) { t.Reset(d) }, func() { t.Stop() }
	}
	return a
}

// C is where it rings.
func (a *Alarm) C() <-chan struct{} { return a.rings }

// Set has it ring after d, at once where d is not above 0.
func (a *Alarm) Set(d time.Duration) { a.set(d) }

// Stop ends it for good.
func (a *Alarm) Stop() { a.stop() }

func (a *Alarm) ring() {
	select {
	case a.rings <- struct{}{}:
	default: // it rings already
	}
}
