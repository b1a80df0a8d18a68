//go:build !windows

package watch

// leavesWatches says that a watch is never taken away but with the Watcher.
const leavesWatches = false
