// Package harden keeps what this process holds from those who look at it from
// outside, and gives up what the process itself does not need.
package harden

// Dirs are the directories of a process, each with all that is below it. They are
// absolute. Single files cannot be named: who replaces one by a rename would take
// it out of reach.
type Dirs struct {
	Read  []string
	Write []string // read, too
}

// Confinement is what this process has given up. The zero value is nothing.
type Confinement struct {
	abi   int // of Landlock
	read  map[inode]bool
	write map[inode]bool
}

// inode is a directory, whatever its name becomes.
type inode struct{ dev, ino uint64 }

// On reports whether anything was given up.
func (c *Confinement) On() bool { return c.abi > 0 }
