package agent

import (
	"container/heap"
	"time"
)

// push puts k in the queue for at, or brings it forward.
func (a *Agent) push(k *keeper, at time.Duration) {
	a.mu.Lock()
	switch {
	case k.slot < 0:
		k.due = at
		heap.Push(&a.queue, k)
	case at < k.due:
		k.due, a.queue[k.slot].at = at, at
		heap.Fix(&a.queue, int(k.slot))
	}
	first := a.queue[0].k == k
	a.mu.Unlock()
	if first {
		a.poke()
	}
}

func (a *Agent) poke() {
	select {
	case a.wakeup <- struct{}{}:
	default:
	}
}

// pop takes the next keeper that is due.
func (a *Agent) pop(now time.Duration) *keeper {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) == 0 || a.queue[0].at > now {
		return nil
	}
	return heap.Pop(&a.queue).(*keeper)
}

// dueQueue is a heap of keepers by the time they are to be looked at. The times stand
// in it too: looked up at a hundred thousand keepers, each would be waited for.
type dueQueue []dueKeeper

type dueKeeper struct {
	at time.Duration // k.due
	k  *keeper
}

func (q dueQueue) Len() int           { return len(q) }
func (q dueQueue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q dueQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].k.slot, q[j].k.slot = int32(i), int32(j)
}
func (q *dueQueue) Push(x any) {
	k := x.(*keeper)
	k.slot = int32(len(*q))
	*q = append(*q, dueKeeper{k.due, k})
}
func (q *dueQueue) Pop() any {
	old := *q
	n := len(old) - 1
	k := old[n].k
	old[n] = dueKeeper{}
	*q = old[:n]
	k.slot = -1
	return k
}
