package footprint

import (
	"bytes"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// inMemory is a figure of this process from a file of proc_pid(5), in KiB.
func inMemory(t *testing.T, file, key string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/" + file)
	if err != nil {
		t.Skip(err)
	}
	_, rest, ok := bytes.Cut(text, []byte("\n"+key+":"))
	if !ok {
		t.Skipf("this kernel does not tell %s", key)
	}
	n, err := strconv.Atoi(string(bytes.Fields(rest)[0]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The program goes on after its text was given back, with less of it in memory.
func TestDropText(t *testing.T) {
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	before := inMemory(t, "status", "RssFile")
	if err := DropText(); err != nil {
		t.Fatal(err)
	}
	if after := inMemory(t, "status", "RssFile"); after >= before {
		t.Errorf("%d KiB are resident from files, %d before", after, before)
	}
	if again, err := os.ReadFile("/proc/self/exe"); err != nil || !bytes.Equal(again, exe) {
		t.Errorf("the executable is another one: %v", err)
	}
}

// What a loader has written into constants is still there: a position-independent
// executable has addresses in them.
func TestDropTextKeepsWhatWasWritten(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	part, err := unix.Mmap(int(f.Fd()), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(part)
	want := part[0] + 1
	part[0] = want
	if err := unix.Mprotect(part, unix.PROT_READ); err != nil {
		t.Fatal(err)
	}
	if err := DropText(); err != nil {
		t.Fatal(err)
	}
	if part[0] != want {
		t.Errorf("%#x is there, %#x was written", part[0], want)
	}
}

func TestReadOnlyPart(t *testing.T) {
	for line, want := range map[string]bool{
		"00400000-00a00000 r-xp 00000000 fd:00 123    /usr/bin/renewd":           true,
		"00a00000-01400000 r--p 00600000 fd:00 123    /usr/bin/renewd":           true,
		"01400000-01480000 rw-p 01000000 fd:00 123    /usr/bin/renewd":           false,
		"7f0000000000-7f0000010000 r-xp 00000000 fd:00 9 /usr/lib/libc.so.6":     false,
		"7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0    [stack]":             false,
		"c000000000-c000400000 rw-p 00000000 00:00 0 ":                           false,
		"00400000-00a00000 r-xp 00000000 fd:00 123    /usr/bin/renewd (deleted)": true,
		"nonsense r-xp 0 0 0 /usr/bin/renewd":                                    false,
	} {
		if _, _, ok := readOnlyPart(line, "/usr/bin/renewd"); ok != want {
			t.Errorf("%q: %v", line, ok)
		}
	}
	if from, to, _ := readOnlyPart("00400000-00a00000 r-xp 00000000 fd:00 123 /x", "/x"); from != 0x400000 || to != 0xa00000 {
		t.Errorf("%x-%x", from, to)
	}
}
