package clock

import (
	"testing"
	"time"
)

func TestAlarmRingsWhenItsTimeHasCome(t *testing.T) {
	a := NewAlarm()
	defer a.Stop()
	for _, d := range []time.Duration{-time.Second, 0, 1, 10 * time.Millisecond, shortSpan + 10*time.Millisecond, time.Millisecond} {
		began := time.Now()
		a.Set(d)
		<-a.C()
		if took := time.Since(began); took < d {
			t.Errorf("set to %v it rang after %v", d, took)
		}
	}
}

func TestAlarmSetAgainForgetsWhatWasSet(t *testing.T) {
	a := NewAlarm()
	defer a.Stop()
	a.Set(time.Hour)
	a.Set(time.Millisecond)
	<-a.C()
	for _, replaced := range []time.Duration{5 * time.Millisecond, shortSpan + time.Millisecond} {
		other := NewAlarm()
		defer other.Stop()
		a.Set(replaced)
		a.Set(time.Hour)
		a.Set(shortSpan / 1000 * 999)
		a.Set(2 * time.Hour)
		other.Set(replaced + 20*time.Millisecond)
		select {
		case <-a.C():
			t.Error("what was replaced rang")
		case <-other.C():
		}
	}
	a.Set(shortSpan + time.Millisecond)
	a.Set(shortSpan - time.Millisecond)
	<-a.C()
	other := NewAlarm()
	defer other.Stop()
	other.Set(20 * time.Millisecond)
	select {
	case <-a.C():
		t.Error("a long span that a short one replaced rang too")
	case <-other.C():
	}
}

func TestAlarmThatIsSetWhileItRingsRingsOnce(t *testing.T) {
	a := NewAlarm()
	defer a.Stop()
	for range 100 {
		a.Set(0)
	}
	<-a.C()
}
