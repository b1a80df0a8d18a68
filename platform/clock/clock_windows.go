package clock

import (
	"fmt"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// Boot is the time since boot, sleep included (GetTickCount64), in steps of
// about 16 ms.
func Boot() time.Duration { return windows.DurationSinceBoot() }

// BootID names this boot by the time it began and, where Windows counts boots,
// by that number: the time alone would take two boots within one minute for the
// same. A stepped wall clock gives another name, and then the wall clock decides.
// Read it once per process.
func BootID() string {
	began := time.Now().Add(-Boot()).Round(time.Minute).Unix()
	return fmt.Sprintf("%d-%d", bootCount(), began)
}

func bootCount() uint64 {
	const path = `SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters`
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, path, registry.QUERY_VALUE)
	if err != nil {
		return 0
	}
	defer k.Close()
	n, _, err := k.GetIntegerValue("BootId")
	if err != nil {
		return 0
	}
	return n
}
