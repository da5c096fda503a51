// Package memory is store/machine/kv in memory, for simulations: a disk that
// forgets on command what was not synced, any part of it, and fails on command.
//
// It is harsher than Badger's files wherever kv leaves room. After Crash any
// subset of the commits that were not synced is left, chosen for each database
// alone; what Discard allows to vanish vanishes at once; a handle that was opened
// before a crash can change nothing any more, whatever its goroutines still try.
//
// It may import store/machine/kv and nothing else of Cloister, and only tests may
// import it.
package memory

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/cloister-os/cloister/store/machine/kv"
)

// Errors beside those that Fail gives.
var (
	ErrPower  = errors.New("the power is off")
	ErrClosed = errors.New("the database is closed")
)

// Op is a step that can fail, or be the last one before the power goes.
type Op string

// The steps.
const (
	OpOpen    Op = "open"
	OpCommit  Op = "commit"
	OpLoad    Op = "load"
	OpSync    Op = "sync"
	OpMark    Op = "mark"
	OpCurrent Op = "current"
	OpRemove  Op = "remove"
	OpVerify  Op = "verify"
	OpRead    Op = "read"
)

// Disk is what outlives a crash.
type Disk struct {
	// Fail, when set, is asked before each step; its error is the step's. It must
	// not call the disk.
	Fail func(Op) error

	mu      sync.Mutex // guards all below
	pause   func(Op)
	rnd     *rand.Rand
	life    int // grows with each crash
	steps   int // that change something, in this life
	last    int // the step at which the power goes, 0 = none
	current uint64
	gens    map[uint64]*generation
}

// New returns an empty disk. What survives a crash is drawn from rnd.
func New(rnd *rand.Rand) *Disk { return &Disk{rnd: rnd, gens: map[uint64]*generation{}} }

// Pause has f called before each step without any lock held, so that it may
// sleep; nil = nothing. It returns what was called before.
func (d *Disk) Pause(f func(Op)) (before func(Op)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, d.pause = d.pause, f
	return before
}

// Refuse sets Fail while others use the disk.
func (d *Disk) Refuse(fail func(Op) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Fail = fail
}

// Volume is the disk as a process sees it until the next crash.
func (d *Disk) Volume() kv.Volume {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &volume{d, d.life}
}

// CutAfter has the power go at the n-th step from now that changes something:
// that step happens or does not, and nothing after it. 0 = never.
func (d *Disk) CutAfter(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.steps, d.last = 0, n
}

// Steps is how many steps changed something since the last crash or CutAfter.
func (d *Disk) Steps() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.steps
}

// Crash forgets what was not synced and ends all handles.
func (d *Disk) Crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.life++
	d.steps, d.last = 0, 0
	for n := uint64(1); n <= d.newest(); n++ { // not in the order of a map
		if g := d.gens[n]; g != nil {
			g.crash(d.rnd)
		}
	}
}

// Restart ends all handles without a power cut: what was written stays, synced
// or not.
func (d *Disk) Restart() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.life++
	d.steps, d.last = 0, 0
}

// Spell lists every key of the current generation as of a version, so that two
// disks can be compared.
func (d *Disk) Spell(version uint64) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.gens[d.current]
	if g == nil {
		return ""
	}
	var out strings.Builder
	for i := range g.dbs {
		for _, k := range g.dbs[i].keys {
			if r, ok := g.dbs[i].at(k, version); ok && !r.deleted {
				fmt.Fprintf(&out, "%d %q %d %x\n", i, k, r.version, r.value)
			}
		}
	}
	return out.String()
}

func (d *Disk) newest() (n uint64) {
	for g := range d.gens {
		n = max(n, g)
	}
	return n
}

// Differs tells of the first commit that was repeated at its version with other
// bytes than before, which a state machine's replay must never do; "" = none.
func (d *Disk) Differs() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range d.gens {
		for i := range g.dbs {
			if s := g.dbs[i].differs; s != "" {
				return s
			}
		}
	}
	return ""
}

// OpLog is a write of a log that lies on the same disk; see Step.
const OpLog Op = "log"

// Life is the present life's number, for Step.
func (d *Disk) Life() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.life
}

// Step runs a change of something else that lies on the disk: it fails as the
// disk does, and what it changed is durable.
func (d *Disk) Step(life int, op Op, change func()) error { return d.step(life, op, change) }

// step runs a change under the lock, unless it is made to fail.
func (d *Disk) step(life int, op Op, change func()) error {
	d.mu.Lock()
	pause := d.pause
	d.mu.Unlock()
	if pause != nil {
		pause(op)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if life != d.life {
		return ErrPower
	}
	if d.Fail != nil {
		if err := d.Fail(op); err != nil {
			return err
		}
	}
	d.steps++
	if d.last > 0 && d.steps >= d.last {
		if d.steps == d.last && d.rnd.IntN(2) == 0 {
			change()
		}
		return ErrPower
	}
	change()
	return nil
}

// volume is a life's handle.
type volume struct {
	disk *Disk
	life int
}

// Current implements kv.Volume.
func (v *volume) Current() (uint64, error) {
	var n uint64
	err := v.disk.step(v.life, OpCurrent, func() {
		d := v.disk
		d.current = max(d.current, 1)
		n = d.current
		for g := range d.gens {
			if g != n {
				delete(d.gens, g)
			}
		}
	})
	return n, err
}

// SetCurrent implements kv.Volume.
func (v *volume) SetCurrent(n uint64) error {
	return v.disk.step(v.life, OpCurrent, func() { v.disk.current = n })
}

// Remove implements kv.Volume.
func (v *volume) Remove(n uint64) error {
	return v.disk.step(v.life, OpRemove, func() { delete(v.disk.gens, n) })
}

// Open implements kv.Volume.
func (v *volume) Open(n uint64) (kv.Pair, error) {
	p := &pair{disk: v.disk, life: v.life}
	err := v.disk.step(v.life, OpOpen, func() {
		if v.disk.gens[n] == nil {
			v.disk.gens[n] = newGeneration()
		}
		p.gen = v.disk.gens[n]
	})
	if err != nil {
		return nil, fmt.Errorf("open generation %d: %w", n, err)
	}
	return p, nil
}

// pair is a life's handle of a generation.
type pair struct {
	disk   *Disk
	life   int
	gen    *generation
	closed bool // guarded by disk.mu
}

var _ kv.Pair = (*pair)(nil)

// Commit implements kv.Pair.
func (p *pair) Commit(version uint64, writes [2][]kv.Write) error {
	return p.step(OpCommit, func() {
		for i := range writes {
			p.gen.dbs[i].commit(version, writes[i])
		}
	})
}

func (p *pair) step(op Op, change func()) error {
	closed := false
	err := p.disk.step(p.life, op, func() {
		if closed = p.closed; !closed {
			change()
		}
	})
	if closed {
		return ErrClosed
	}
	return err
}

// Sync implements kv.Pair.
func (p *pair) Sync() error {
	return p.step(OpSync, func() {
		for i := range p.gen.dbs {
			p.gen.dbs[i].sync()
		}
	})
}

// Mark implements kv.Pair.
func (p *pair) Mark() kv.Mark {
	p.disk.mu.Lock()
	defer p.disk.mu.Unlock()
	return p.gen.mark
}

// SetMark implements kv.Pair.
func (p *pair) SetMark(m kv.Mark) error { return p.step(OpMark, func() { p.gen.mark = m }) }

// Discard implements kv.Pair.
func (p *pair) Discard(state, history uint64) {
	p.disk.mu.Lock()
	defer p.disk.mu.Unlock()
	if p.closed || p.life != p.disk.life {
		return
	}
	for i, bound := range []uint64{kv.State: state, kv.History: history} {
		p.gen.dbs[i].discard(bound)
	}
}

// Verify implements kv.Pair.
func (p *pair) Verify(int, func(int) error) error { return p.step(OpVerify, func() {}) }

// Bytes implements kv.Pair.
func (p *pair) Bytes() int64 {
	p.disk.mu.Lock()
	defer p.disk.mu.Unlock()
	sum := int64(0)
	for i := range p.gen.dbs {
		for k, revs := range p.gen.dbs[i].revs {
			for _, r := range revs {
				sum += int64(len(k) + len(r.value))
			}
		}
	}
	return sum
}

// Close implements kv.Pair.
func (p *pair) Close() error {
	p.disk.mu.Lock()
	defer p.disk.mu.Unlock()
	p.closed = true
	return nil
}

// Load implements kv.Pair.
func (p *pair) Load() kv.Loader { return loader{p} }

type loader struct{ pair *pair }

// Add implements kv.Loader. It is no step of its own, or a restore would have
// too many.
func (l loader) Add(db int, version uint64, w kv.Write) error {
	d := l.pair.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if l.pair.life != d.life {
		return ErrPower
	}
	l.pair.gen.dbs[db].commit(version, []kv.Write{w})
	return nil
}

// Finish implements kv.Loader.
func (l loader) Finish() error { return l.pair.step(OpLoad, func() {}) }

// Abort implements kv.Loader.
func (loader) Abort() {}
