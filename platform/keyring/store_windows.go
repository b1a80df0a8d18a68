package keyring

import (
	"encoding/binary"
	"unicode/utf16"
)

// storeWith is the command that makes an entry and asks for the secret.
const storeWith = "cmdkey /generic:%[1]s:%[2]s /user:%[2]s /pass"

// quote encloses a word for cmdkey, and quoteInside stands for one in it.
const quote, quoteInside = `"`, `\"`

// decoded reads what cmdkey and the Control Panel store, which is UTF-16; a
// secret has no NUL byte, so nothing else looks like it.
func decoded(s string) string {
	if len(s) == 0 || len(s)%2 != 0 {
		return s
	}
	units := make([]uint16, len(s)/2)
	wide := false
	for i := range units {
		units[i] = binary.LittleEndian.Uint16([]byte(s[2*i:]))
		wide = wide || units[i] < 0x80
	}
	if !wide {
		return s
	}
	return string(utf16.Decode(units))
}
