package clock

import (
	"testing"
	"time"
)

func TestReaderShowsASuspendWithinAMillisecond(t *testing.T) {
	var r Reader
	now := time.Now()
	slept := 7 * time.Hour
	for r.last.Load() == nil { // the machine may interrupt us
		now = time.Now()
		r.bootAt(now, func() time.Duration { return time.Hour })
	}
	asleep := func() time.Duration { return time.Hour + slept }
	if got := r.bootAt(now.Add(believed/2), asleep); got != time.Hour+believed/2 {
		t.Errorf("half a millisecond after a reading Boot is %v, want it carried on", got)
	}
	if got := r.bootAt(now.Add(believed), asleep); got != time.Hour+slept {
		t.Errorf("a millisecond after a reading Boot is %v, want a new reading", got)
	}
	if got := r.bootAt(now.Add(-time.Second), asleep); got != time.Hour+slept {
		t.Errorf("a moment before the reading Boot is %v, want a new reading", got)
	}
}

func TestReaderKeepsPaceWithBoot(t *testing.T) {
	var r Reader
	for began := time.Now(); time.Since(began) < 20*time.Millisecond; {
		before, got, after := Boot(), r.Boot(), Boot()
		// Windows ticks every 16 ms.
		if got < before-20*time.Millisecond || got > after+20*time.Millisecond {
			t.Fatalf("Reader says %v between %v and %v", got, before, after)
		}
	}
}

func BenchmarkReader(b *testing.B) {
	b.Run("Reader", func(b *testing.B) {
		var r Reader
		for b.Loop() {
			r.Boot()
		}
	})
	b.Run("Boot", func(b *testing.B) {
		for b.Loop() {
			Boot()
		}
	})
}
