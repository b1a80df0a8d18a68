package watch

// leavesWatches says that a watch is never taken away but with the Watcher. What
// fsnotify v1.10.1 has read when a watch is removed it handles afterwards, and
// closes the directory's handle once more: by then it may be anybody's, a token's
// file or the state. A watch that is left costs a handle and some looks.
const leavesWatches = true
