package keyring

// storeWith is the command that makes an entry and asks for the secret.
const storeWith = "secret-tool store --label=%[1]s service %[1]s username %[2]s"

// quote encloses a word for a shell, and quoteInside stands for one in it.
const quote, quoteInside = "'", `'\''`

func decoded(s string) string { return s }
