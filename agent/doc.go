// Package agent keeps tokens fresh: it decides when each token is renewed,
// remembers what a restart must not lose, and hands every new token to its
// sinks.
//
// The words are those of the product: a [Source] obtains tokens (by login or
// by refresh), a [Sink] publishes them, a [Store] keeps what must survive. A
// keeper (keeper.go) is one token's life; [Agent] holds all keepers and the one
// loop that wakes them. What decides without acting is pure: schedule.go says
// when, failure.go says what a failure leads to, ledger.go says whether a
// credential may be tried at all.
//
// Time has one seam, the [Clock]: the wall clock for what people and other
// programs read, and a clock that counts suspend and never steps for every
// deadline. Timers stay package time's, so the whole package runs in a
// testing/synctest bubble.
//
// The package imports the standard library only; config, sources, sinks and
// platform code depend on it, never the other way round.
package agent
