package gate

import (
	"net/netip"
	"slices"
	"sync"
)

// turns lets so many work at once. Of those that wait, each address has its turn
// after every other one; within an address, who goes on comes before who begins.
type turns struct {
	mu    sync.Mutex // guards all below
	free  int
	ring  []netip.Addr // with somebody waiting; the first is next
	queue map[netip.Addr]*line
}

// line is who waits of one address.
type line struct{ again, first []chan struct{} }

func newTurns(n int) *turns { return &turns{free: n, queue: map[netip.Addr]*line{}} }

// take waits for a turn, which give gives back.
func (t *turns) take(source netip.Addr, again bool) {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return
	}
	l := t.queue[source]
	if l == nil {
		l = &line{}
		t.queue[source], t.ring = l, append(t.ring, source)
	}
	turn := make(chan struct{})
	if again {
		l.again = append(l.again, turn)
	} else {
		l.first = append(l.first, turn)
	}
	t.mu.Unlock()
	<-turn // given by somebody who works, and works only for a moment
}

// give passes the turn on.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ring) == 0 {
		t.free++
		return
	}
	source := t.ring[0]
	t.ring = slices.Delete(t.ring, 0, 1)
	l := t.queue[source]
	from := &l.first
	if len(l.again) > 0 {
		from = &l.again
	}
	close((*from)[0])
	*from = slices.Delete(*from, 0, 1)
	if len(l.again)+len(l.first) > 0 {
		t.ring = append(t.ring, source)
	} else {
		delete(t.queue, source)
	}
}
