// Package clock reads the clock that deadlines are held on: one that goes on
// while the machine sleeps and never steps. Package time's monotonic clock stops
// during suspend on Linux, so a token would look younger than it is after a nap.
//
// [Boot] means something only within one boot of the machine; [BootID] tells one
// boot from another, so that a reading saved on disk can be judged later.
package clock
