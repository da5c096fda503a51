package gate

import (
	"container/list"
	"net"
	"net/netip"
)

// conn is a connection and its place.
type conn struct {
	net.Conn
	gate   *Gate
	source netip.Addr

	shaking, atWork bool // used by the goroutine of the handshake, which ends before others use the connection

	// Guarded by the gate.
	pool    *pool         // nil = it has no place
	at      *list.Element // in one of its crowd's lists
	resting bool          // it may be let go
	serving int           // requests
}

// Read implements net.Conn. During the handshake whoever waits for the other side
// gives up the turn, so that nobody holds one by saying nothing.
func (c *conn) Read(b []byte) (int, error) {
	if !c.shaking {
		return c.Conn.Read(b)
	}
	again := c.atWork
	if c.atWork {
		c.atWork = false
		c.gate.turns.give()
	}
	c.gate.rests(c)
	n, err := c.Conn.Read(b)
	c.gate.works(c)
	c.gate.turns.take(c.source, again)
	c.atWork = true
	return n, err
}

// shaken ends the handshake.
func (c *conn) shaken() {
	c.shaking = false
	if c.atWork {
		c.atWork = false
		c.gate.turns.give()
	}
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.gate.mu.Lock()
	c.leave()
	c.gate.mu.Unlock()
	return c.Conn.Close()
}

// drop closes who was let go; nil = nobody was.
func (c *conn) drop() {
	if c != nil {
		_ = c.Conn.Close() // without a word: it said none
	}
}

// leave gives the place back. The gate is held, here and below.
func (c *conn) leave() {
	if c.pool == nil {
		return
	}
	crowd := c.pool.crowds[c.source]
	crowd.list(c.resting).Remove(c.at)
	if crowd.n--; crowd.n == 0 {
		delete(c.pool.crowds, c.source)
	}
	c.pool.n--
	c.pool = nil
}

// hold keeps it from being let go.
func (c *conn) hold() { c.move(false) }

// rest says that it may be let go.
func (c *conn) rest() { c.move(true) }

func (c *conn) move(resting bool) {
	if c.pool == nil || c.resting == resting {
		return
	}
	crowd := c.pool.crowds[c.source]
	crowd.list(c.resting).Remove(c.at)
	c.resting, c.at = resting, crowd.list(resting).PushBack(c)
}

// pool is a bounded number of places. Its zero value but for most is empty.
type pool struct {
	most   int
	shares bool // when all are at work, who comes from elsewhere gets a place of the largest crowd
	n      int
	crowds map[netip.Addr]*crowd
}

// crowd is who came from one address.
type crowd struct {
	n       int
	idle    list.List // of *conn that may be let go, the one that rests longest first
	working list.List // of the others, in the order in which they began to
}

func (c *crowd) list(resting bool) *list.List {
	if resting {
		return &c.idle
	}
	return &c.working
}

// enter gives a connection a place as one that may be let go, if need be that of
// another, which the caller closes. It is false when nobody may be let go.
func (p *pool) enter(c *conn) (out *conn, ok bool) {
	if p.n >= p.most {
		if out = p.longest(); out == nil && p.shares {
			out = p.last(c.source)
		}
		if out == nil {
			return nil, false
		}
		out.leave()
	}
	if p.crowds == nil {
		p.crowds = map[netip.Addr]*crowd{}
	}
	if p.crowds[c.source] == nil {
		p.crowds[c.source] = &crowd{}
	}
	crowd := p.crowds[c.source]
	crowd.n++
	p.n++
	c.pool, c.resting, c.at = p, true, crowd.idle.PushBack(c)
	return out, true
}

// longest is who rests longest of those from the address that has most places.
func (p *pool) longest() *conn {
	var largest *crowd
	for _, c := range p.crowds {
		if c.idle.Len() > 0 && (largest == nil || c.n > largest.n) {
			largest = c
		}
	}
	if largest == nil {
		return nil
	}
	return largest.idle.Front().Value.(*conn)
}

// last is who began last to work in the largest crowd, unless that is as small as the
// one that would take the place.
func (p *pool) last(source netip.Addr) *conn {
	own, largest := 0, &crowd{}
	if c := p.crowds[source]; c != nil {
		own = c.n
	}
	for _, c := range p.crowds {
		if c.n > largest.n {
			largest = c
		}
	}
	if largest.n <= own+1 || largest.working.Len() == 0 {
		return nil
	}
	return largest.working.Back().Value.(*conn)
}

func (p *pool) all() (out []*conn) {
	for _, c := range p.crowds {
		for _, l := range []*list.List{&c.idle, &c.working} {
			for e := l.Front(); e != nil; e = e.Next() {
				out = append(out, e.Value.(*conn))
			}
		}
	}
	return out
}
