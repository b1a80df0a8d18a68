//go:build !windows

package keyring

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// What people are told to type means the entry that was meant, whatever a shell
// makes of the characters in its name.
func TestHowToStoreIsForAShell(t *testing.T) {
	for _, name := range []string{"renewd", "a b", "HOST$", "$(echo x)", "`echo x`", `it's "so"`, `back\slash`, "a!b", "*"} {
		_, words, _ := strings.Cut(HowToStore(name, "bob"), " ")
		out, err := exec.Command("/bin/sh", "-c", "printf '%s\\n' "+words).Output()
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Split(string(out), "\n"); !slices.Contains(lines, name) {
			t.Errorf("%q is typed as %q", name, lines)
		}
	}
}
