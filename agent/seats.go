package agent

import (
	"hash/maphash"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
)

// seat is what a read of one token looks at. Seats stand side by side, apart from
// their keepers: of a hundred thousand tokens that are read at random none is in
// the processor's cache, and each piece of memory that a read must wait for costs
// it as much as a tenth of a system call.
type seat struct {
	name    string
	current atomic.Pointer[Publication]
	access  atomic.Pointer[Access]
	keeper  atomic.Pointer[keeper] // nil once it has left the config; see vacate
	reads   [readResults]atomic.Uint32
	ahead   atomic.Pointer[byte] // of the current token's bytes the first; see touch
}

// touch reads a byte of the token and forgets it: the processor then fetches the
// token while it fetches the publication that leads to it.
func (s *seat) touch() {
	if b := s.ahead.Load(); b != nil {
		runtime.KeepAlive(*b)
	}
}

// vacate forgets the token, since the memory of a seat lasts as long as that of its
// neighbours.
func (s *seat) vacate() {
	s.keeper.Store(nil)
	s.current.Store(nil)
	s.ahead.Store(nil)
}

// newSeats makes a seat for each name, and their names one text.
func newSeats(names []string) []seat {
	all := strings.Join(names, "")
	seats := make([]seat, len(names))
	for i, n := range names {
		seats[i].name, all = all[:len(n)], all[len(n):]
	}
	return seats
}

// roll finds seats by name. It never changes. A map would do but for its layout:
// it looks at three places for what stands in one here.
type roll struct {
	seed  maphash.Seed
	slots []slot // a power of two of them, at most half taken
	taken int
}

type slot struct {
	sum  uint64 // of the seat's name
	seat *seat
}

func newRoll(size int) *roll {
	room := 2
	for room < 2*size {
		room *= 2
	}
	return &roll{seed: maphash.MakeSeed(), slots: make([]slot, room)}
}

// add takes a name that is not there yet.
func (r *roll) add(s *seat) {
	sum := maphash.String(r.seed, s.name)
	i := r.first(sum)
	for r.slots[i].seat != nil {
		i = r.next(i)
	}
	r.slots[i] = slot{sum, s}
	r.taken++
}

func (r *roll) first(sum uint64) int { return int(sum) & (len(r.slots) - 1) }
func (r *roll) next(i int) int       { return (i + 1) & (len(r.slots) - 1) }

// find gives the seat of a name, nil where there is none.
func (r *roll) find(name []byte) *seat {
	sum := maphash.Bytes(r.seed, name)
	for i := r.first(sum); ; i = r.next(i) {
		s := &r.slots[i]
		if s.seat == nil || s.sum == sum && s.seat.name == string(name) {
			return s.seat
		}
	}
}

// keeper gives the keeper of a name, nil where there is none.
func (r *roll) keeper(name string) *keeper {
	if s := r.find([]byte(name)); s != nil {
		return s.keeper.Load()
	}
	return nil
}

// all gives every keeper, in no order.
func (r *roll) all() iter.Seq[*keeper] {
	return func(yield func(*keeper) bool) {
		for i := range r.slots {
			s := r.slots[i].seat
			if s == nil {
				continue
			}
			if k := s.keeper.Load(); k != nil && !yield(k) {
				return
			}
		}
	}
}

// names lists all names in order.
func (r *roll) names() []string {
	list := make([]string, 0, r.taken)
	for k := range r.all() {
		list = append(list, k.name)
	}
	slices.Sort(list)
	return list
}
