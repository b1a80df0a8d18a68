package agent

import (
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"
)

// A token that has left the config leaves nothing behind, though the memory that
// readers look at is shared with a token that stays.
func TestARemovedTokenIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stays := &Spec{Name: "stays", Source: newFake(w.now)}
		w.run(stays, &Spec{Name: "goes", Source: newFake(w.now)})
		defer w.shutdown()
		synctest.Wait()
		w.mustValid("goes")
		gone, value := weak.Make(w.token("goes").k), weak.Make(w.token("goes").Current())
		if err := w.a.Apply([]*Spec{stays}, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour) // its turn comes
		synctest.Wait()
		runtime.GC()
		runtime.GC()
		if gone.Value() != nil || value.Value() != nil {
			t.Errorf("its keeper is there: %v, its value: %v", gone.Value() != nil, value.Value() != nil)
		}
		w.mustValid("stays")
	})
}

// Whoever comes and goes, by one or by the crowd, is found by name until they have
// left, and nobody else is.
func TestRollFindsWhoIsThere(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	there, r := map[string]*keeper{}, newRoll()
	for round := range 200 {
		crowd := 1 + rnd.IntN(3)
		if rnd.IntN(10) == 0 {
			crowd = 1 + rnd.IntN(500)
		}
		var come []string
		for i := range crowd {
			come = append(come, fmt.Sprintf("t%d.%d", round, i))
		}
		for name, k := range there { // some leave, and of those some come back
			if rnd.IntN(8) == 0 || crowd > 400 && rnd.IntN(50) != 0 {
				k.vacate()
				delete(there, name)
				if rnd.IntN(2) == 0 {
					come = append(come, name)
				}
			}
		}
		r = r.with(len(there), come, func(i int, s *seat) {
			k := &keeper{seat: s}
			s.keeper.Store(k)
			there[come[i]] = k
		})
		for name, k := range there {
			if r.keeper(name) != k || k.name != name {
				t.Fatalf("round %d: %s is not found", round, name)
			}
		}
		for _, name := range []string{"", "t", fmt.Sprintf("t%d.0", round+1)} {
			if r.keeper(name) != nil {
				t.Fatalf("round %d: %q is found", round, name)
			}
		}
		if got, want := r.names(), slices.Sorted(maps.Keys(there)); !slices.Equal(got, want) {
			t.Fatalf("round %d: on the roll are %v, there are %v", round, got, want)
		}
	}
}

// A fleet stands side by side, however it comes: at the start, when all are renamed at
// once, when it more than doubles; but those who leave one behind each time are not
// looked for in ever more rows.
func TestFleetsStandSideBySide(t *testing.T) {
	seated := func(_ int, s *seat) { s.keeper.Store(&keeper{seat: s, slot: -1}) }
	fleet := func(prefix string, n int) (names []string) {
		for i := range n {
			names = append(names, fmt.Sprint(prefix, i))
		}
		return names
	}
	r := newRoll().with(0, fleet("a", 100), seated)
	r = r.with(0, fleet("b", 100), seated) // all of a are about to leave
	r = r.with(100, fleet("c", 101), seated)
	if len(r.apart) > 0 || len(r.rows) != 3 {
		t.Errorf("%d are apart, in %d rows; want 0, 3", len(r.apart), len(r.rows))
	}
	r = r.with(201, fleet("d", 5), seated)
	if len(r.apart) != 5 || len(r.rows) != 3 {
		t.Errorf("after five more %d are apart, in %d rows; want 5, 3", len(r.apart), len(r.rows))
	}
	for round := range 100 {
		for k := range r.all() {
			if !strings.HasSuffix(k.name, ".0") {
				k.vacate()
			}
		}
		r = r.with(round, fleet(fmt.Sprint("e", round, "."), 100), seated)
	}
	if len(r.rows) > mostRows || r.keeper("e0.0") == nil || r.keeper("e99.99") == nil || r.keeper("e98.99") != nil {
		t.Errorf("%d rows, want at most %d; on them %v", len(r.rows), mostRows, r.names())
	}
}

// Tokens that leave the config together are out of reach at once, however slow the
// state's disk; and one that is renewed meanwhile does not come back.
func TestRemovedTokensAreGoneAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var specs []*Spec
		for i := range 5 {
			specs = append(specs, &Spec{Name: fmt.Sprint("t", i), Source: newFake(w.now)})
		}
		w.run(specs...)
		defer w.shutdown()
		synctest.Wait()
		var seats []*seat
		for _, s := range specs {
			w.mustValid(s.Name)
			seats = append(seats, w.a.roll.Load().find([]byte(s.Name)))
		}
		slow := func(d time.Duration) {
			w.store.mu.Lock()
			defer w.store.mu.Unlock()
			w.store.slow = d
		}
		slow(3 * time.Second)
		if err := w.token("t0").Refresh(t.Context(), Caller{ID: "manager", Manager: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) // its save is under way, and is going to be overtaken
		slow(time.Second)
		go func() {
			if err := w.a.Apply(nil, nil); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		for _, s := range specs {
			if _, ok := w.a.Token(s.Name); ok {
				t.Errorf("%s is still there", s.Name)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for i, s := range seats {
			if s.current.Load() != nil {
				t.Errorf("t%d holds a token again", i)
			}
			value, err := w.store.Get(BucketTokens, s.name)
			if err != nil {
				t.Fatal(err)
			}
			r, _, _, err := decodeRecord(value, w.now(), w.a.bootID)
			if err != nil || r.has() || r.generation == 0 {
				t.Errorf("t%d leaves %+v in the state (%v), want its numbers alone", i, r, err)
			}
		}
	})
}

// Names that have one sum are told apart by themselves.
func TestRowTellsNamesApart(t *testing.T) {
	seed := maphash.MakeSeed()
	r := newRow(seed, []string{"a"}, func(int, *seat) {})
	sum := maphash.String(seed, "a")
	s := r.find(sum, []byte("a"))
	if s == nil {
		t.Fatal("a is not found")
	}
	for _, p := range []*Publication{nil, newPublication("a", NewSecret("t"))} {
		s.current.Store(p)
		if r.find(sum, []byte("a")) != s || r.find(sum, []byte("b")) != nil {
			t.Errorf("with the publication %v: a is %p, b is %p", p, r.find(sum, []byte("a")), r.find(sum, []byte("b")))
		}
	}
}

// A reload that renames all tokens counts as stayers only those who stay.
func TestARenamedFleetStandsSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		fleet := func(prefix string) (specs []*Spec) {
			for i := range 5 {
				specs = append(specs, &Spec{Name: fmt.Sprint(prefix, i), Source: newFake(w.now)})
			}
			return specs
		}
		w.run(fleet("a")...)
		defer w.shutdown()
		synctest.Wait()
		if err := w.a.Apply(fleet("b"), nil); err != nil {
			t.Fatal(err)
		}
		if r := w.a.roll.Load(); len(r.apart) != 0 || r.keeper("b4") == nil {
			t.Errorf("%d of the renamed are apart", len(r.apart))
		}
	})
}
