package footprint

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const transparentHuge = "/sys/kernel/mm/transparent_hugepage/"

// Collapse puts what the heap has in memory into huge pages, so that a look at one
// of many things finds its page in fewer steps. It does so only where a huge page
// is nearly full already, since the rest of it is occupied from then on. What comes
// into memory later, or is given back in part, is in small pages until the next
// call.
//
// It fails with [errors.ErrUnsupported] where huge pages are not to be had: the
// kernel is older than 6.1, or the admin has turned them off.
func Collapse() error {
	huge, err := hugeSize()
	if err != nil {
		return fmt.Errorf("huge pages: %w", err)
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("read the memory map: %w", err)
	}
	defer maps.Close()
	pages := make([]byte, huge/uintptr(os.Getpagesize()))
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		from, to, ok := heapPart(lines.Text())
		if !ok {
			continue
		}
		for at := (from + huge - 1) / huge * huge; at+huge <= to; at += huge {
			switch full, err := nearlyFull(at, huge, pages); {
			case err != nil:
				return fmt.Errorf("ask what is in memory: %w", err)
			case full:
				// One that cannot be made is left: memory is short, or
				// somebody is at its pages.
				_ = collapse(at, huge)
			}
		}
	}
	return lines.Err()
}

// hugeSize is the size of a huge page in bytes.
func hugeSize() (uintptr, error) {
	enabled, err := os.ReadFile(transparentHuge + "enabled")
	if err != nil || bytes.Contains(enabled, []byte("[never]")) {
		return 0, errors.ErrUnsupported
	}
	text, err := os.ReadFile(transparentHuge + "hpage_pmd_size")
	if err != nil {
		return 0, errors.ErrUnsupported
	}
	size, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 63)
	if err != nil {
		return 0, err
	}
	if collapse(0, 0) != nil || size < uint64(os.Getpagesize()) {
		return 0, errors.ErrUnsupported
	}
	return uintptr(size), nil
}

// collapse makes a huge page of what is at an address. Of nothing, it tells whether
// the kernel knows how.
func collapse(at, size uintptr) error {
	if _, _, e := unix.Syscall(unix.SYS_MADVISE, at, size, unix.MADV_COLLAPSE); e != 0 {
		return e
	}
	return nil
}

// nearlyFull reports whether at most a sixteenth of the pages at an address is not
// in memory. pages is room for a byte of each.
func nearlyFull(at, size uintptr, pages []byte) (bool, error) {
	_, _, e := unix.Syscall(unix.SYS_MINCORE, at, size, uintptr(unsafe.Pointer(&pages[0])))
	switch e {
	case 0:
	case unix.ENOMEM: // it is mapped no longer
		return false, nil
	default:
		return false, e
	}
	absent := 0
	for _, p := range pages {
		absent += int(^p & 1)
	}
	return absent <= len(pages)/16, nil
}

// heapPart reads one line of proc_pid_maps(5): the range, if it is of the heap as
// the Go runtime maps it, which names it where the kernel takes names.
func heapPart(line string) (from, to uintptr, ok bool) {
	f := strings.Fields(line)
	if len(f) < 5 || f[1] != "rw-p" || f[4] != "0" || len(f) > 5 && !strings.HasSuffix(line, "[anon: Go: heap]") {
		return 0, 0, false
	}
	if _, err := fmt.Sscanf(f[0], "%x-%x", &from, &to); err != nil || to <= from {
		return 0, 0, false
	}
	return from, to, true
}
