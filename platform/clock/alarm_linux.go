package clock

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// kernelTimer is a timerfd on the boot clock.
type kernelTimer struct {
	fd int // f's
	f  *os.File
}

// newKernelTimer gives one that calls ring, nil where the kernel refuses it.
func newKernelTimer(ring func()) *kernelTimer {
	fd, f, err := timer(unix.CLOCK_BOOTTIME)
	if err != nil {
		return nil
	}
	go func() {
		var count [8]byte
		for {
			if _, err := f.Read(count[:]); err != nil {
				return
			}
			ring()
		}
	}()
	return &kernelTimer{fd, f}
}

// set has it ring after d; 0: never.
func (k *kernelTimer) set(d time.Duration) {
	_ = unix.TimerfdSettime(k.fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(d.Nanoseconds())}, nil)
}

func (k *kernelTimer) close() { _ = k.f.Close() }

// timer opens a timerfd. It is set through fd as long as f is open.
func timer(clock int) (fd int, f *os.File, err error) {
	fd, err = unix.TimerfdCreate(clock, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return -1, nil, err
	}
	return fd, os.NewFile(uintptr(fd), "timer"), nil
}

// Changes calls changed soon after each time that the wall clock was set or the
// machine woke up, until stop is called. ok is false where the system does not
// tell; then whoever wants to know must look.
func Changes(changed func()) (stop func(), ok bool) {
	fd, f, err := timer(unix.CLOCK_REALTIME)
	if err != nil {
		return func() {}, false
	}
	// It is never meant to expire: setting the clock cancels it.
	never, err := unix.TimeToTimespec(time.Now().AddDate(10, 0, 0))
	if err != nil || unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &unix.ItimerSpec{Value: never}, nil) != nil {
		_ = f.Close()
		return func() {}, false
	}
	go func() {
		var count [8]byte
		for {
			if _, err := f.Read(count[:]); err != nil && !errors.Is(err, unix.ECANCELED) {
				return
			}
			changed()
		}
	}()
	return func() { _ = f.Close() }, true
}
