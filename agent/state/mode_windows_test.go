package state

import "testing"

// ownAlone: the directory's access list, which its files inherit, keeps others
// out here; whoever makes it answers for that.
func ownAlone(*testing.T, ...string) {}
