//go:build !linux && !windows

package keyring

// storeWith is the command that makes an entry and asks for the secret.
const storeWith = "security add-generic-password -U -s %[1]s -a %[2]s -w"

// quote encloses a word for a shell, and quoteInside stands for one in it.
const quote, quoteInside = "'", `'\''`

func decoded(s string) string { return s }
