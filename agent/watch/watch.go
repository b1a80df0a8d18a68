// Package watch tells when files change, whichever way they do: written in place,
// replaced by a rename, deleted, swapped through a symlink as Kubernetes does
// with ..data, or together with their directory.
//
// It watches directories, one watch for all files of one, since a watch on a file
// follows the inode and misses its replacement. A slow poll finds what the
// operating system does not tell: network filesystems, a directory above that was
// exchanged, a full table of watches.
package watch

import (
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"renewd/platform/clock"
)

const (
	quiet   = 50 * time.Millisecond  // an editor's burst of events is one change
	longest = 500 * time.Millisecond // a burst that never ends is told all the same
	often   = time.Minute            // the poll where the system does not tell
	seldom  = 5                      // times as long where it seems to: an idle agent wakes for little else
	crowd   = 64                     // files of one directory that an event has looked at beside those it names

	// A directory in which so many names changed within one burst is not watched
	// for a while: telling of thousands of changes a second, nearly all our own
	// sinks', would cost more than they do.
	throng = 500
	rest   = 30 * time.Second
)

// Watcher watches files. It is safe for concurrent use.
type Watcher struct {
	log   *slog.Logger
	fs    *fsnotify.Watcher // nil: the poll alone
	poll  time.Duration     // where the system does not tell
	rest  time.Duration     // of a thronged directory
	done  chan struct{}
	idle  sync.WaitGroup
	blind chan struct{} // a directory that cannot be watched has come: the poll is to be sooner

	mu     sync.Mutex
	closed bool
	dirs   map[string]*dir
	above  map[string]int // watched only to see missing directories come: users
	polled time.Time      // when everything was last looked at
	found  bool           // it had changes that nobody had told
}

// dir is one directory and the files watched in it.
type dir struct {
	path  string
	files map[string][]*File // by base name
	state signature          // of the directory that is watched; zero: none is
	above string             // what is watched while the directory is missing
	rests time.Time          // until then it is not watched

	unwatched bool // it could not be, nor anything above it
}

// File is one watched path.
type File struct {
	changed func()
	w       *Watcher
	path    string
	seen    signature
}

// New starts a Watcher. Where the system has no watch left to give, it says so in
// the log and polls.
func New(log *slog.Logger) *Watcher {
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("files are polled, not watched", "error", err)
		fs = nil
	}
	return start(log, fs, often)
}

func start(log *slog.Logger, fs *fsnotify.Watcher, poll time.Duration) *Watcher {
	w := &Watcher{log: log, fs: fs, poll: poll, rest: rest, done: make(chan struct{}), blind: make(chan struct{}, 1),
		dirs: map[string]*dir{}, above: map[string]int{}, polled: time.Now()}
	w.idle.Go(w.run)
	return w
}

// Close ends all watching and waits for it. The channels stay open and silent.
func (w *Watcher) Close() {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.done)
	}
	w.mu.Unlock()
	w.idle.Wait()
}

// Add watches path, which need not exist. What changes after Add returned is
// told by a call of changed, once or more after each change, all calls of one
// Watcher one after another. It must return soon; one call may still come while
// or just after Stop is called.
func (w *Watcher) Add(path string, changed func()) *File {
	path = filepath.Clean(path)
	f := &File{changed: changed, w: w, path: path}
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.dirs[filepath.Dir(path)]
	if d == nil {
		d = &dir{path: filepath.Dir(path), files: map[string][]*File{}}
		w.dirs[d.path] = d
	}
	d.files[filepath.Base(path)] = append(d.files[filepath.Base(path)], f)
	if d.state == (signature{}) && d.rests.IsZero() {
		w.detach(d) // from the directory above, if it waits there
		w.attach(d)
	}
	f.seen = look(path)
	return f
}

// Stop ends the watching of one path.
func (f *File) Stop() {
	w := f.w
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.dirs[filepath.Dir(f.path)]
	if d == nil {
		return
	}
	name := filepath.Base(f.path)
	left := d.files[name][:0:0]
	for _, o := range d.files[name] {
		if o != f {
			left = append(left, o)
		}
	}
	if d.files[name] = left; len(left) > 0 {
		return
	}
	if delete(d.files, name); len(d.files) == 0 {
		w.detach(d)
		delete(w.dirs, d.path)
	}
}

// run compares what events touched once they pause, and everything now and then.
func (w *Watcher) run() {
	h := &heard{more: make(chan struct{}, 1)}
	if w.fs != nil {
		w.idle.Go(func() { h.listen(w.fs) })
		defer w.fs.Close()
	}
	next := clock.NewAlarm()
	defer next.Stop()
	next.Set(w.untilPoll())
	for {
		select {
		case <-w.done:
			return
		case <-h.more:
			pause, lost := h.wait()
			if lost {
				tell(w.compareAll())
			}
			next.Set(pause)
		case <-w.blind:
			next.Set(0)
		case <-next.C():
			if touched := h.take(); len(touched) > 0 {
				tell(w.compare(touched))
			} else {
				tell(w.compareAll())
			}
			next.Set(w.untilPoll())
		}
	}
}

func tell(files []*File) {
	for _, f := range files {
		f.changed()
	}
}

// untilPoll is the time to the next look at everything: sooner where a directory
// is not watched or the last look found what had not been told, and where a
// directory's rest ends.
func (w *Watcher) untilPoll() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	told := w.fs != nil && !w.found
	for _, d := range w.dirs {
		told = told && !d.unwatched
	}
	at := w.polled.Add(w.poll)
	if told {
		at = w.polled.Add(seldom * w.poll)
	}
	for _, d := range w.dirs {
		if !d.rests.IsZero() && d.rests.Before(at) {
			at = d.rests
		}
	}
	return max(0, time.Until(at))
}

// touch books an event under its directory and, since it may be about that
// directory itself, under its own name.
func touch(touched map[string]map[string]bool, path string) {
	for _, at := range [2][2]string{{filepath.Dir(path), filepath.Base(path)}, {path, ""}} {
		if touched[at[0]] == nil {
			touched[at[0]] = map[string]bool{}
		}
		touched[at[0]][at[1]] = true
	}
}

// compare gives the files that an event named, and those of the touched
// directories that look different: a symlink's target changes under another name.
func (w *Watcher) compare(touched map[string]map[string]bool) (changed []*File) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.dirs {
		names := touched[d.path]
		switch {
		case !d.rests.IsZero():
			changed = w.awake(d, changed)
		case len(names) > throng:
			w.detach(d)
			d.rests = time.Now().Add(w.rest)
		case names != nil || d.above != "" && touched[d.above] != nil:
			changed = w.check(d, names, len(d.files) <= crowd, changed)
		}
	}
	return changed
}

func (w *Watcher) compareAll() (changed []*File) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.polled = time.Now()
	for _, d := range w.dirs {
		if d.rests.IsZero() {
			changed = w.check(d, nil, true, changed)
		} else {
			changed = w.awake(d, changed)
		}
	}
	w.found = len(changed) > 0
	return changed
}

// awake watches a directory again whose rest has ended. w.mu is held.
func (w *Watcher) awake(d *dir, changed []*File) []*File {
	if time.Now().Before(d.rests) {
		return changed
	}
	d.rests = time.Time{}
	return w.check(d, nil, true, changed)
}

// check looks at one directory again and adds its files that changed. An event
// that names the directory itself may be its move, which ends the watch. Where all
// is false only the named files and symlinks are looked at: a thousand tokens'
// files in one directory have an event every few milliseconds. w.mu is held over
// no more than stat(2) and inotify_add_watch(2).
func (w *Watcher) check(d *dir, named map[string]bool, all bool, changed []*File) []*File {
	if now := lookDir(d.path); now != d.state || now == (signature{}) || named[""] {
		w.detach(d)
		w.attach(d)
		all = true
	}
	for name, files := range d.files {
		for _, f := range files {
			if !all && !named[name] && !f.seen.link {
				continue
			}
			now := look(f.path)
			if now != f.seen || named[name] {
				f.seen = now
				changed = append(changed, f)
			}
		}
	}
	return changed
}

// attach watches d or, while it is missing, the nearest directory above it that
// is there.
func (w *Watcher) attach(d *dir) {
	if w.fs == nil {
		d.state = lookDir(d.path)
		return
	}
	// The state before the watch: a directory exchanged in between looks changed
	// at the next check.
	state := lookDir(d.path)
	err := w.fs.Add(d.path)
	if err == nil {
		d.state, d.unwatched = state, false
		return
	}
	d.state = signature{}
	for up := filepath.Dir(d.path); ; up = filepath.Dir(up) {
		if lookDir(up) != (signature{}) && w.fs.Add(up) == nil {
			d.above, d.unwatched = up, false
			w.above[up]++
			return
		}
		if up == filepath.Dir(up) {
			break
		}
	}
	if d.unwatched {
		return // as was told
	}
	d.unwatched = true
	w.log.Warn("directory is polled, not watched", "directory", d.path, "error", err)
	select {
	case w.blind <- struct{}{}:
	default:
	}
}

// detach ends the watches that only d needed.
func (w *Watcher) detach(d *dir) {
	if w.fs == nil {
		return
	}
	if up := d.above; up != "" {
		d.above = ""
		if w.above[up]--; w.above[up] == 0 {
			delete(w.above, up)
			if w.dirs[up] == nil {
				w.end(up)
			}
		}
	}
	if w.above[d.path] == 0 {
		w.end(d.path)
	}
	d.state = signature{}
}

// end gives a watch up.
func (w *Watcher) end(path string) {
	if !leavesWatches {
		_ = w.fs.Remove(path) // an error says that it is gone already
	}
}
