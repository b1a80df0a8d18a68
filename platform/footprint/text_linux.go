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
// from the page cache. So that nothing is lost, only what cannot be written and
// never was is touched: of a position-independent executable the loader writes the
// addresses into constants before it makes them read-only.
func DropText() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find the executable: %w", err)
	}
	exe = strings.TrimSuffix(exe, " (deleted)") // upgraded meanwhile
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("read the memory map: %w", err)
	}
	defer f.Close()
	var from, to uintptr
	whole := false // as it is in the file, so far as is known
	for lines := bufio.NewScanner(f); lines.Scan(); {
		switch key, rest, _ := strings.Cut(lines.Text(), " "); {
		case !strings.HasSuffix(key, ":"):
			from, to, whole = readOnlyPart(lines.Text(), exe)
		case key == "Anonymous:", key == "Swap:": // pages that were written
			whole = whole && strings.TrimSpace(rest) == "0 kB"
		case key == "VmFlags:" && whole: // the last line of each
			if _, _, e := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED); e != 0 {
				return fmt.Errorf("give back %x-%x: %w", from, to, e)
			}
		}
	}
	return nil
}

// readOnlyPart reads the first line that proc_pid_smaps(5) has of a mapping: the
// range, if it is mapped from exe and is not writable.
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
