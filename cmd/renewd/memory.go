package main

import (
	"os"
	"runtime/debug"
	"time"

	"renewd/platform/footprint"
)

const (
	manyTokens   = 1000     // from here on the collector is told how much garbage to leave
	tokenSize    = 3 << 10  // what a token of 1.5 KB keeps on the heap
	garbage      = 32 << 20 // is left lying where it is more than a share of the heap
	leastGarbage = 10       // percent of the heap, which is what a large one is left with
	largeHeap    = 128 << 20
	mostGarbage  = 200
	whileLoading = 200 // a heap that grows is collected as often as it trebles

	startTime    = 2 * time.Second // after this what only the start needed is given back
	collapseTime = 10 * time.Second
)

// trim gives back what reading a large config needed and tells the collector how
// often to run. A heap of hundreds of megabytes that may double costs each token
// twice; one of ten megabytes that may not is collected for every few renewals.
// GOGC in the environment wins.
func (d *daemon) trim(tokens int) {
	d.tokens.Store(int64(tokens))
	percent := 100
	if tokens >= manyTokens {
		percent = min(100*garbage/(tokens*tokenSize), mostGarbage)
	}
	if tokens*tokenSize > largeHeap {
		percent = leastGarbage
	}
	setGarbage(percent)
	giveBack := func() {
		if tokens >= manyTokens {
			debug.FreeOSMemory()
		}
	}
	giveBack()
	time.AfterFunc(startTime, func() {
		giveBack()
		_ = footprint.DropText() // what it fails to give back is not missed
		d.collapse()
	})
}

// collapse keeps the heap in huge pages while there are many tokens: a reader of
// one of them mostly finds it where the processor has not looked for long. Few
// have no need of it, and an idle agent is not to be woken.
func (d *daemon) collapse() {
	if !d.collapsing.CompareAndSwap(false, true) {
		return
	}
	defer d.collapsing.Store(false)
	for d.tokens.Load() >= manyTokens && footprint.Collapse() == nil {
		time.Sleep(collapseTime)
	}
}

// setGarbage sets how much garbage is left lying, in percent of the heap.
func setGarbage(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}
