package watch

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// patience is how long a change that is to be told is waited for: far below the
// poll, which must not help.
const patience = 10 * time.Second

func watcher(t *testing.T) *Watcher {
	t.Helper()
	w := New(slog.New(slog.DiscardHandler))
	t.Cleanup(w.Close)
	return w
}

// listener is a File whose changes wait in C.
type listener struct {
	*File
	C chan struct{}
}

func listen(w *Watcher, path string) *listener {
	c := make(chan struct{}, 1)
	return &listener{w.Add(path, func() {
		select {
		case c <- struct{}{}:
		default:
		}
	}), c}
}

// left are the watches that should not be there any more.
func left(w *Watcher) []string {
	if leavesWatches {
		return nil
	}
	return w.fs.WatchList()
}

// link makes a symlink, where the system does.
func link(t *testing.T, to, at string) {
	t.Helper()
	err := os.Symlink(to, at)
	if fi, lerr := os.Lstat(at); runtime.GOOS == "windows" && (err != nil || lerr != nil || fi.Mode()&os.ModeSymlink == 0) {
		t.Skipf("no symlinks here: Windows wants a privilege for them, Wine makes none (%v)", err)
	}
	must(t, err)
}

func told(t *testing.T, f *listener, what string) {
	t.Helper()
	select {
	case <-f.C:
	case <-time.After(patience):
		t.Fatalf("%s: not told", what)
	}
	// The burst may be told in two parts: wait until it is over.
	for {
		select {
		case <-f.C:
		case <-time.After(longest):
			return
		}
	}
}

func silent(t *testing.T, f *listener, what string) {
	t.Helper()
	select {
	case <-f.C:
		t.Fatalf("%s: told", what)
	case <-time.After(longest):
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func write(path, s string) error { return os.WriteFile(path, []byte(s), 0o600) }

func TestEveryWayToChangeAFileIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "secret")
	w := watcher(t)
	f := listen(w, path)
	must(t, write(path, "one"))
	told(t, f, "created")
	must(t, write(path, "two"))
	told(t, f, "written in place")
	must(t, write(path+".new", "new"), os.Rename(path+".new", path))
	told(t, f, "replaced by a rename")
	must(t, write(path, "six"))
	told(t, f, "written after the replacement")
	if runtime.GOOS != "windows" {
		must(t, os.Chmod(path, 0o644))
		told(t, f, "chmodded")
	}
	must(t, os.Remove(path))
	told(t, f, "removed")
	must(t, write(filepath.Join(dir, "other"), "x"))
	silent(t, f, "another file")
}

// Kubernetes mounts secrets as links through ..data, which it exchanges.
func TestASwapOfKubernetesDataIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "..1"), 0o755), write(filepath.Join(dir, "..1", "token"), "same"),
		os.Mkdir(filepath.Join(dir, "..2"), 0o755), write(filepath.Join(dir, "..2", "token"), "same"))
	link(t, "..1", filepath.Join(dir, "..data"))
	link(t, "..data/token", filepath.Join(dir, "token"))
	f := listen(watcher(t), filepath.Join(dir, "token"))
	link(t, "..2", filepath.Join(dir, "..data_tmp"))
	must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	told(t, f, "swapped")
}

func TestADirectoryThatGoesAndComesIsWatchedAgain(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	dir := filepath.Join(top, "a", "b")
	path := filepath.Join(dir, "x")
	must(t, os.MkdirAll(dir, 0o755), write(path, "1"))
	w := watcher(t)
	f := listen(w, path)
	for i := range 3 {
		must(t, os.RemoveAll(filepath.Join(top, "a")))
		told(t, f, "directory removed")
		must(t, os.MkdirAll(dir, 0o755), write(path, "1"))
		told(t, f, "directory made again")
		must(t, write(path, fmt.Sprint("in place", i)))
		told(t, f, "written in the new directory")
	}
	if runtime.GOOS == "windows" {
		return // it tells nobody that a watched directory was renamed: the poll finds it
	}
	must(t, os.Rename(dir, dir+".old"))
	told(t, f, "directory moved away")
	must(t, os.Rename(dir+".old", dir))
	told(t, f, "and back")
	must(t, write(path, "after the move"))
	told(t, f, "written after the move")
}

func TestAFileInADirectoryYetToComeIsTold(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	dir := filepath.Join(top, "a", "b", "c")
	f := listen(watcher(t), filepath.Join(dir, "x"))
	must(t, os.MkdirAll(dir, 0o755), write(filepath.Join(dir, "x"), "1"))
	told(t, f, "file in a new directory")
}

func TestManyFilesOfADirectoryShareOneWatch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := watcher(t)
	files := make([]*listener, 2000)
	for i := range files {
		files[i] = listen(w, filepath.Join(dir, fmt.Sprint(i)))
	}
	if list := w.fs.WatchList(); len(list) != 1 {
		t.Fatalf("%d watches", len(list))
	}
	must(t, write(filepath.Join(dir, "1234"), "x"))
	told(t, files[1234], "one of many")
	silent(t, files[1233], "its neighbour")
	for _, f := range files {
		f.Stop()
	}
	if list := left(w); len(list) != 0 || len(w.dirs) != 0 {
		t.Fatalf("after Stop: %v", list)
	}
}

func TestTwoWatchersOfOnePathAreBothTold(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x")
	w := watcher(t)
	a, b := listen(w, path), listen(w, path)
	a.Stop()
	c := listen(w, path)
	must(t, write(path, "1"))
	told(t, b, "the second")
	told(t, c, "the third")
	silent(t, a, "the stopped one")
}

func TestABurstIsOneChange(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x")
	f := listen(watcher(t), path)
	n := 0
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-f.C:
				n++
			case <-stop:
				return
			}
		}
	})
	begin := time.Now()
	for i := range 2000 {
		must(t, write(path, fmt.Sprint(i)))
	}
	time.Sleep(2 * longest)
	close(stop)
	wg.Wait()
	if limit := 3 + int(time.Since(begin)/quiet); n == 0 || n > limit {
		t.Fatalf("told %d times, limit %d", n, limit)
	}
}

func TestThePollFindsWhatNoEventTells(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	path := filepath.Join(top, "x")
	blind := start(slog.New(slog.DiscardHandler), nil, 20*time.Millisecond)
	t.Cleanup(blind.Close)
	f := listen(blind, path)
	must(t, write(path, "1"))
	told(t, f, "without any watch")

	// A directory above is exchanged: no event reaches the watch below it.
	for _, v := range []string{"v1", "v2"} {
		must(t, os.MkdirAll(filepath.Join(top, v, "d"), 0o755), write(filepath.Join(top, v, "d", "x"), v))
	}
	link(t, "v1", filepath.Join(top, "current"))
	fs, err := fsnotify.NewWatcher()
	must(t, err)
	w := start(slog.New(slog.DiscardHandler), fs, 20*time.Millisecond)
	t.Cleanup(w.Close)
	f = listen(w, filepath.Join(top, "current", "d", "x"))
	link(t, "v2", filepath.Join(top, "next"))
	must(t, os.Rename(filepath.Join(top, "next"), filepath.Join(top, "current")))
	told(t, f, "a link above was exchanged")
}

// Where the system tells, the poll is five times as seldom until it has found
// something all the same; what cannot be watched is said once.
func TestThePollIsSeldomWhereTheSystemTells(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	for _, v := range []string{"v1", "v2"} {
		must(t, os.MkdirAll(filepath.Join(top, v), 0o755), write(filepath.Join(top, v, "x"), v))
	}
	fs, err := fsnotify.NewWatcher()
	must(t, err)
	var log bytes.Buffer
	w := start(slog.New(slog.NewTextHandler(&log, nil)), fs, time.Hour)
	t.Cleanup(w.Close)
	polls := func(when string, hours time.Duration) {
		t.Helper()
		if d := w.untilPoll(); d > hours*time.Hour || d <= (hours-1)*time.Hour {
			t.Errorf("%s: %v to the poll, not %d hours", when, d, hours)
		}
	}
	w.Add(filepath.Join(top, "v1", "x"), func() {})
	polls("all is watched", seldom)

	must(t, fs.Close()) // nothing more can be watched
	began := time.Now()
	w.Add(filepath.Join(top, "v2", "x"), func() {})
	looked := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.polled.After(began)
	}
	for !looked() { // and so sets its alarm anew
		if time.Since(began) > patience {
			t.Fatal("the poll is not brought forward")
		}
		time.Sleep(time.Millisecond)
	}
	for range 3 {
		w.Add(filepath.Join(top, "v2", "x"), func() {})
		w.compareAll()
	}
	polls("a directory is not watched", 1)
	if n := strings.Count(log.String(), "polled, not watched"); n != 1 {
		t.Errorf("said %d times:\n%s", n, &log)
	}
}

func TestThePollIsOftenWhereItFinds(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	for _, v := range []string{"v1", "v2"} {
		must(t, os.MkdirAll(filepath.Join(top, v, "d"), 0o755), write(filepath.Join(top, v, "d", "x"), v))
	}
	link(t, "v1", filepath.Join(top, "current"))
	fs, err := fsnotify.NewWatcher()
	must(t, err)
	w := start(slog.New(slog.DiscardHandler), fs, time.Hour)
	t.Cleanup(w.Close)
	w.Add(filepath.Join(top, "current", "d", "x"), func() {})
	for _, v := range []string{"v2", "v1"} {
		link(t, v, filepath.Join(top, "next"))
		must(t, os.Rename(filepath.Join(top, "next"), filepath.Join(top, "current")))
		for _, hours := range []time.Duration{1, seldom} {
			w.compareAll()
			if d := w.untilPoll(); d > hours*time.Hour || d <= (hours-1)*time.Hour {
				t.Errorf("%v to the poll, not %d hours", d, hours)
			}
		}
	}
}

func TestAddAndStopWhileThingsChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := watcher(t)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 50 {
				path := filepath.Join(dir, fmt.Sprint(g%3), fmt.Sprint(i%5))
				f := listen(w, path)
				_ = os.MkdirAll(filepath.Dir(path), 0o755)
				_ = write(path, "x")
				if i%10 == 0 {
					_ = os.RemoveAll(filepath.Dir(path))
				}
				f.Stop()
			}
		})
	}
	all.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.dirs) != 0 || len(w.above) != 0 || len(left(w)) != 0 {
		t.Fatalf("left: %d directories, above %v, watches %v", len(w.dirs), w.above, left(w))
	}
}

// Where thousands of names change a second the directory is left alone for a
// while; what changed meanwhile is told when it is looked at again.
func TestAThrongedDirectoryRests(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "mine")
	w := watcher(t)
	w.mu.Lock()
	w.rest = rest / 10
	w.mu.Unlock()
	f := listen(w, path)
	resting := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return !w.dirs[dir].rests.IsZero()
	}
	for n := 0; !resting(); n++ {
		must(t, write(filepath.Join(dir, fmt.Sprint(n%(4*throng))), "x"), os.Remove(filepath.Join(dir, fmt.Sprint(n%(4*throng)))))
	}
	if list := left(w); len(list) != 0 {
		t.Errorf("a resting directory is watched: %v", list)
	}
	must(t, write(path, "changed"))
	select {
	case <-f.C:
	case <-time.After(w.rest + patience):
		t.Fatal("what changed while the directory rested was not told")
	}
	must(t, write(path, "again"))
	told(t, f, "after the rest")
}
