package agent

// NewMemory gives tests of other packages the Store that forgets nothing.
func NewMemory() Store { return newMemory() }
