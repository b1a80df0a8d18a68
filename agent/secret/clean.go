package secret

import (
	"bytes"
	"fmt"

	"renewd/agent"
)

// How to write a secret right, as errors tell it.
const howToWrite = "write it as UTF-8 without a byte order mark: printf %s 'SECRET' > FILE, or in PowerShell [IO.File]::WriteAllText(PATH, SECRET)"

// clean checks what was read and drops the one line end that editors add. A
// secret that cannot be what was meant is an error, since sending it would cost
// a try.
func clean(what string, b []byte, line bool) (agent.Secret, error) {
	bad := func(how string) (agent.Secret, error) {
		return agent.Secret{}, fmt.Errorf("%s %s; %s", what, how, howToWrite)
	}
	switch {
	case bytes.HasPrefix(b, []byte{0xEF, 0xBB, 0xBF}):
		return bad("begins with a byte order mark")
	case bytes.HasPrefix(b, []byte{0xFF, 0xFE}), bytes.HasPrefix(b, []byte{0xFE, 0xFF}), looksUTF16(b):
		return bad("is UTF-16")
	case bytes.IndexByte(b, 0) >= 0:
		return bad("holds a NUL byte")
	}
	if line {
		if t, ok := bytes.CutSuffix(b, []byte("\n")); ok {
			b = bytes.TrimSuffix(t, []byte("\r"))
		}
	}
	if len(b) == 0 {
		return bad("is empty")
	}
	return agent.NewSecret(string(b)), nil
}

// looksUTF16 knows ASCII text in UTF-16 without a mark: every other byte is NUL.
func looksUTF16(b []byte) bool {
	if len(b) < 2 || len(b)%2 != 0 {
		return false
	}
	for i := 0; i < len(b); i += 2 {
		if (b[i] == 0) == (b[i+1] == 0) {
			return false
		}
	}
	return true
}

// OthersRead reports whether every user of this machine can read a file: its
// mode lets them, and so does every directory above it.
func OthersRead(path string) bool { return path != "" && othersRead(path) }
