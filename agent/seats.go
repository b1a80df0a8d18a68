package agent

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
	"strings"
	"sync/atomic"
)

// seat is what a read of one token looks at. Seats stand side by side, apart from
// their keepers: of a hundred thousand tokens that are read at random none is in
// the processor's cache, and each piece of memory that a read must wait for costs
// it as much as a tenth of a system call. A seat fills one line of the cache.
type seat struct {
	name    string
	current atomic.Pointer[Publication]
	access  atomic.Pointer[Access]
	keeper  atomic.Pointer[keeper] // nil once it has left the config; see vacate
	reads   [readResults]atomic.Uint32
	sum     uint64 // of the name
}

// is tells whether it is the seat of a name. The name stands beside the token too,
// which a read is going to need.
func (s *seat) is(name []byte) bool {
	if p := s.current.Load(); p != nil {
		return p.Name == string(name)
	}
	return s.name == string(name)
}

// vacate forgets the token, since the memory of a seat lasts as long as that of its
// neighbours. Nobody takes it again.
func (s *seat) vacate() {
	s.keeper.Store(nil)
	s.current.Store(nil)
}

// row is seats that stand by the sums of their names, three quarters of them given
// away: who looks for one waits for that piece of memory, and not first for a table
// that leads to it.
type row []seat

func newRow(seed maphash.Seed, names []string, seated func(i int, s *seat)) row {
	r := make(row, len(names)*4/3+1)
	all := strings.Join(names, "") // the names are one text
	for n, name := range names {
		name, all = all[:len(name)], all[len(name):]
		sum := maphash.String(seed, name)
		i := r.first(sum)
		for r[i].name != "" {
			i = r.next(i)
		}
		r[i].name, r[i].sum = name, sum
		seated(n, &r[i])
	}
	return r
}

func (r row) first(sum uint64) int {
	i, _ := bits.Mul64(sum, uint64(len(r)))
	return int(i)
}

func (r row) next(i int) int {
	if i++; i < len(r) {
		return i
	}
	return 0
}

// taken tells whether anybody is there.
func (r row) taken() bool {
	for i := range r {
		if r[i].keeper.Load() != nil {
			return true
		}
	}
	return false
}

// find gives the seat of a name, nil where there is none.
func (r row) find(sum uint64, name []byte) *seat {
	for i := r.first(sum); ; i = r.next(i) {
		s := &r[i]
		switch {
		case len(s.name) == 0:
			return nil
		case s.sum == sum && s.is(name):
			return s
		}
	}
}

// roll finds seats by name. It never changes. Where more come than stay, they get a
// row, as with the first config; fewer have seats apart.
type roll struct {
	seed  maphash.Seed
	rows  []row
	apart map[string]*seat
}

// mostRows bounds how many rows a name is looked for in.
const mostRows = 16

func newRoll() *roll { return &roll{seed: maphash.MakeSeed()} }

// with is a roll of all who are on r, of whom stay many are not about to leave, and
// of names that are not; seated gives each seat of those a keeper.
func (r *roll) with(stay int, names []string, seated func(i int, s *seat)) *roll {
	next := &roll{seed: r.seed, apart: make(map[string]*seat)}
	for _, row := range r.rows {
		if row.taken() {
			next.rows = append(next.rows, row)
		}
	}
	for n, s := range r.apart {
		if s.keeper.Load() != nil {
			next.apart[n] = s
		}
	}
	if len(names) > stay && len(next.rows) < mostRows {
		next.rows = append(next.rows, newRow(r.seed, names, seated))
		return next
	}
	for i, n := range names {
		s := &seat{name: n}
		seated(i, s)
		next.apart[n] = s
	}
	return next
}

// find gives the seat of a name, nil where there is none.
func (r *roll) find(name []byte) *seat {
	sum := maphash.Bytes(r.seed, name)
	for i := len(r.rows) - 1; i >= 0; i-- { // the last is mostly the largest
		if s := r.rows[i].find(sum, name); s != nil && s.keeper.Load() != nil {
			return s
		}
	}
	return r.apart[string(name)]
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
		for _, row := range r.rows {
			for i := range row {
				if k := row[i].keeper.Load(); k != nil && !yield(k) {
					return
				}
			}
		}
		for _, s := range r.apart {
			if k := s.keeper.Load(); k != nil && !yield(k) {
				return
			}
		}
	}
}

// names lists all names in order.
func (r *roll) names() []string {
	var list []string
	for k := range r.all() {
		list = append(list, k.name)
	}
	slices.Sort(list)
	return list
}
