// Package account knows for whom this process acts, and Windows' accounts by their security
// identifiers (SIDs, [MS-DTYP] section 2.4.2). Elsewhere accounts have numbers,
// which os/user knows, and this package has only what is true of text.
package account

import (
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
)

// Well-known accounts ([MS-DTYP] section 2.4.2.4).
const (
	System         = "S-1-5-18"
	Administrators = "S-1-5-32-544"
	Anonymous      = "S-1-5-7"
)

// Service gives the SID of a service's virtual account, NT SERVICE\NAME, which
// follows from its name: the SHA-1 of the name in capitals, as UTF-16.
func Service(name string) string {
	var text []byte
	for _, u := range utf16.Encode([]rune(strings.ToUpper(name))) {
		text = binary.LittleEndian.AppendUint16(text, u)
	}
	sum := sha1.Sum(text)
	sid := "S-1-5-80"
	for i := 0; i < len(sum); i += 4 {
		sid += fmt.Sprintf("-%d", binary.LittleEndian.Uint32(sum[i:]))
	}
	return sid
}
