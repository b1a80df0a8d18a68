package watch

import (
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// heard gathers events until they are looked at. A goroutine of its own takes
// them in, whatever locks are held: on Windows fsnotify's Add and Remove wait
// until its last event has been taken.
type heard struct {
	more chan struct{} // something came

	mu      sync.Mutex
	touched map[string]map[string]bool // directory -> base names
	first   time.Time                  // of what is in touched
	lost    bool                       // events were
}

// listen takes in what fs tells until it is closed.
func (h *heard) listen(fs *fsnotify.Watcher) {
	for {
		select {
		case ev, ok := <-fs.Events:
			if !ok {
				return
			}
			h.touch(ev.Name)
		case _, ok := <-fs.Errors: // mostly a queue that ran over
			if !ok {
				return
			}
			h.mu.Lock()
			h.lost = true
			h.mu.Unlock()
		}
		select {
		case h.more <- struct{}{}:
		default:
		}
	}
}

func (h *heard) touch(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.touched) == 0 {
		h.touched, h.first = map[string]map[string]bool{}, time.Now()
	}
	touch(h.touched, name)
}

// wait says how long the burst under way may still be let go on, and whether
// events were lost.
func (h *heard) wait() (d time.Duration, lost bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	lost, h.lost = h.lost, false
	return max(0, min(quiet, longest-time.Since(h.first))), lost
}

// take gives what was touched since the last take.
func (h *heard) take() map[string]map[string]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	touched := h.touched
	h.touched = nil
	return touched
}
