package clock

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestBootNeverGoesBackAndKeepsPaceWithTime(t *testing.T) {
	earliest := time.Now()
	start, began := Boot(), time.Now()
	if start <= 0 {
		t.Fatalf("Boot() = %v, want above 0: agent reads 0 as unset", start)
	}
	last := start
	for time.Since(began) < 60*time.Millisecond {
		least := time.Since(began)
		b := Boot()
		most := time.Since(earliest)
		if b < last {
			t.Fatalf("Boot went back from %v to %v", last, b)
		}
		last = b
		// One tick of the coarsest clock (Windows) is 16 ms.
		if d := b - start; d < least-20*time.Millisecond || d > most+20*time.Millisecond {
			t.Fatalf("Boot moved by %v while %v to %v passed", d, least, most)
		}
	}
}

func TestBootIDIsTheSameInAnotherProcess(t *testing.T) {
	if os.Getenv("RENEWD_TEST_PRINT_BOOT_ID") != "" {
		os.Stdout.WriteString(BootID())
		os.Exit(0)
	}
	if BootID() == "" {
		t.Fatal("BootID is empty")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestBootIDIsTheSameInAnotherProcess$")
	cmd.Env = append(os.Environ(), "RENEWD_TEST_PRINT_BOOT_ID=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bootIDIsKnown {
		t.Skip("this system does not name its boots")
	}
	if string(out) != BootID() {
		t.Fatalf("another process reads %q, this one %q", out, BootID())
	}
}
