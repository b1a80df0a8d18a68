package clock

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Setting the clock to what it shows is a change too: the system tells of all.
func TestASetClockIsTold(t *testing.T) {
	told := make(chan struct{}, 16)
	stop, ok := Changes(func() { told <- struct{}{} })
	if !ok {
		t.Fatal("the kernel gives no timer")
	}
	defer stop()
	for range 3 {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
			t.Fatal(err)
		}
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
			t.Skipf("the clock cannot be set here: %v", err)
		}
		select {
		case <-told:
		case <-time.After(10 * time.Second):
			t.Fatal("a set clock is not told")
		}
	}
}
