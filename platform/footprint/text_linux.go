package footprint

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// DropText unmaps the pages of the program's own code and constants that are in
// memory: a start touches most of them, once. What is used again is mapped again
// from the page cache. Only what is mapped from the executable and cannot be
// written is touched, so nothing is lost.
func DropText() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find the executable: %w", err)
	}
	exe = strings.TrimSuffix(exe, " (deleted)") // upgraded meanwhile
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("read the memory map: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		from, to, ok := readOnlyPart(lines.Text(), exe)
		if !ok {
			continue
		}
		if _, _, e := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED); e != 0 {
			return fmt.Errorf("give back %x-%x: %w", from, to, e)
		}
	}
	return nil
}

// readOnlyPart reads a line of proc_pid_maps(5): the range that it tells, if it is
// mapped from exe and is not writable.
func readOnlyPart(line, exe string) (from, to uintptr, ok bool) {
	f := strings.Fields(line)
	if len(f) < 6 || f[5] != exe || strings.Contains(f[1], "w") {
		return 0, 0, false
	}
	if _, err := fmt.Sscanf(f[0], "%x-%x", &from, &to); err != nil || to <= from {
		return 0, 0, false
	}
	return from, to, true
}
