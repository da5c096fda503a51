package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing/synctest"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine"
	"github.com/cloister-os/cloister/store/storetest/memory"
)

// machines is state machines over one log.
type machines struct {
	*Run
	*oracle
	log       [][]byte // of index i+1; nil = an entry of raft's own
	clock     time.Time
	proposers []*proposer
	members   []*member
}

// proposer is a node that sends transactions, as the leader sees it.
type proposer struct {
	name   string
	boot   uint64
	next   uint64
	lowest uint64
	sent   map[uint64][]store.Op // of this life
}

// member is a machine, its disk and its place in the log.
type member struct {
	name    string
	disk    *memory.Disk
	machine *machine.Machine
	next    uint64 // the entry to apply
	cut     uint64 // its log begins above this one
	open    int    // views that are open
	watched store.Version
}

var errFull = errors.New("no space left on device")

const stateKeep = time.Minute

// Machines runs one seed of the first level.
func Machines(r *Run) {
	w := &machines{Run: r, oracle: newOracle(), clock: time.Unix(1e9, 0)}
	for i := range 3 {
		w.proposers = append(w.proposers, &proposer{name: fmt.Sprint("p", i), boot: 1, next: 1, lowest: 1, sent: map[uint64][]store.Op{}})
		m := &member{name: fmt.Sprint("m", i), disk: memory.New(rand.New(rand.NewPCG(r.Rand.Uint64(), uint64(i))))}
		w.members = append(w.members, m)
		w.start(m)
	}
	for range 40 + r.Rand.IntN(160) {
		w.act(w.members[r.Rand.IntN(len(w.members))])
		synctest.Wait() // for what a restore leaves behind
	}
	w.end()
}

// act does one thing.
func (w *machines) act(m *member) {
	switch n := w.Rand.IntN(100); {
	case n < 30:
		w.propose()
	case n < 60:
		w.apply(m, 1+w.Rand.IntN(6))
	case n < 70:
		w.sync(m)
	case n < 75:
		w.look(m)
	case n < 80:
		w.watch(m)
	case n < 84:
		w.lookLong(m)
	case n < 87:
		w.cutPower(m)
	case n < 89:
		w.restart(m)
	case n < 91 && m.open == 0:
		w.close(m)
	case n < 94:
		m.disk.CutAfter(1 + w.Rand.IntN(6))
		w.Logf("%s: the power goes at a step to come", m.name)
	case n < 95:
		w.fill(m)
	case n < 98:
		w.restore(m, w.members[w.Rand.IntN(len(w.members))])
	default:
		w.damaged(m, w.members[w.Rand.IntN(len(w.members))])
	}
}

// propose puts an entry at the end of the log.
func (w *machines) propose() {
	index := uint64(len(w.log) + 1)
	if w.Rand.IntN(12) == 0 {
		w.log = append(w.log, nil)
		return
	}
	w.clock = w.clock.Add(time.Duration(w.Rand.IntN(8000)-1000) * time.Millisecond)
	if w.Rand.IntN(40) == 0 {
		w.clock = w.clock.Add(time.Duration(w.Rand.IntN(3)-1) * time.Hour)
	}
	g := machine.Group{Time: w.clock}
	for i, p := range w.proposers {
		if w.Rand.IntN(2) == 0 && (i > 0 || w.Rand.IntN(20) > 0) {
			continue
		}
		w.from(p, &g)
	}
	data := g.AppendTo(nil)
	w.log = append(w.log, data)
	w.must(w.group(index, data), "replay in the model")
	w.Logf("log %d: %d transactions of %v", index, len(g.Entries), g.Origins)
}

// from adds a proposer's transactions to a group.
func (w *machines) from(p *proposer, g *machine.Group) {
	if w.Rand.IntN(25) == 0 {
		p.boot, p.next, p.lowest, p.sent = p.boot+1, 1, 1, map[uint64][]store.Op{}
	}
	o := machine.Origin{Node: p.name, Boot: p.boot, Lowest: p.lowest}
	if w.Rand.IntN(30) == 0 && p.boot > 1 {
		o.Boot-- // something of its earlier life arrives late
	}
	for range 1 + w.Rand.IntN(4) {
		seq := p.next
		if w.Rand.IntN(4) == 0 && p.next > 1 { // again
			seq = max(1, p.next-min(p.next-1, 1+uint64(w.Rand.IntN(8))))
		} else {
			p.next += 1 + uint64(w.Rand.IntN(8)/7) // now and then one arrives later
		}
		if p.sent[seq] == nil {
			id := fmt.Sprintf("%s/%d/%d", p.name, p.boot, seq)
			p.sent[seq] = someTx(w.Rand, id, w.current).Ops()
			w.floor(p, seq)
		}
		g.Entries = append(g.Entries, machine.Entry{Origin: len(g.Origins), Seq: seq, Ops: p.sent[seq]})
	}
	g.Origins = append(g.Origins, o)
	if w.Rand.IntN(3) == 0 {
		p.lowest = max(p.lowest, p.next-min(p.next-1, uint64(w.Rand.IntN(10))))
	}
}

// floor now and then makes the transaction one that moves the retention floor.
func (w *machines) floor(p *proposer, seq uint64) {
	if w.Rand.IntN(30) > 0 || len(w.log) < 20 {
		return
	}
	old, err := w.model.Snapshot(w.model.Applied()).Get(store.RetentionFloor)
	have, _ := store.ParseNumber(string(old.Value))
	to := max(have, uint64(len(w.log)-w.Rand.IntN(20)))
	if err == nil && to == have {
		return
	}
	tx := store.NewTx()
	tx.Check(store.RetentionFloor, old.Version) // it never moves back
	tx.Put(store.RetentionFloor, []byte(store.Number(to)))
	p.sent[seq] = tx.Ops()
}

// current is a key's newest version, or an older one.
func (w *machines) current(k store.Key) store.Version {
	v := w.model.Applied()
	item, err := w.model.Snapshot(v - min(v, store.Version(w.Rand.IntN(3)))).Get(k)
	if err != nil {
		return 0
	}
	return item.Version
}

// start opens a member's machine; its power may go meanwhile.
func (w *machines) start(m *member) {
	for {
		var err error
		m.machine, err = machine.Open(machine.Config{
			Volume: m.disk.Volume(), StateKeep: stateKeep, RingBytes: 1 << (6 + w.Rand.IntN(8)),
			Logger: slog.New(slog.DiscardHandler),
		})
		if err == nil {
			break
		}
		if !errors.Is(err, memory.ErrPower) {
			w.Fatalf("%s: open: %v", m.name, err)
		}
		m.disk.Crash()
	}
	at := uint64(m.machine.Applied())
	w.Logf("%s: opened at %d", m.name, at)
	if at < m.cut {
		w.Fatalf("%s: opened at %d, its log was cut at %d", m.name, at, m.cut)
	}
	m.next = at + 1
	w.replayed(m)
}

// replayed checks that what the mark covers is not applied again.
func (w *machines) replayed(m *member) {
	if at := uint64(m.machine.Applied()); at > 0 && w.log[at-1] != nil {
		if a, err := m.machine.Apply(at, w.log[at-1]); a != nil || err != nil {
			w.Fatalf("%s: entry %d is under the mark: %v, %v", m.name, at, a, err)
		}
	}
}

// down ends a machine whose disk is gone.
func (w *machines) down(m *member) {
	m.machine.Abandon()
	w.must(m.machine.Close(), "close an abandoned machine")
}

// survived handles an error of a machine: power and disk may fail, nothing else.
func (w *machines) survived(m *member, doing string, err error) bool {
	if err == nil {
		return true
	}
	w.Logf("%s: %s: %v", m.name, doing, err)
	m.disk.Fail = nil
	switch {
	case errors.Is(err, memory.ErrPower):
		m.disk.Crash()
	case errors.Is(err, errFull):
		m.disk.Restart()
	default:
		w.Fatalf("%s: %s: %v", m.name, doing, err)
	}
	w.down(m)
	w.start(m)
	return false
}

func (w *machines) apply(m *member, n int) {
	for ; n > 0 && m.next <= uint64(len(w.log)); n-- {
		data := w.log[m.next-1]
		if data == nil {
			m.next++
			continue
		}
		a, err := m.machine.Apply(m.next, data)
		if !w.survived(m, "apply", err) {
			return
		}
		if err := w.check(m.next, a.Outcomes); err != nil {
			w.Fatalf("%s: %v", m.name, err)
		}
		m.next++
	}
}

func (w *machines) sync(m *member) {
	if w.survived(m, "sync", m.machine.Sync()) && w.Rand.IntN(2) == 0 {
		m.cut = uint64(m.machine.Mark())
		w.Logf("%s: log cut at %d", m.name, m.cut)
	}
}

func (w *machines) cutPower(m *member) {
	w.Logf("%s: power cut", m.name)
	m.disk.Crash()
	w.down(m)
	w.start(m)
}

func (w *machines) restart(m *member) {
	w.Logf("%s: killed", m.name)
	m.disk.Restart()
	w.down(m)
	w.start(m)
}

func (w *machines) close(m *member) {
	err := m.machine.Close()
	w.Logf("%s: closed: %v", m.name, err)
	m.disk.Fail = nil
	switch {
	case errors.Is(err, memory.ErrPower):
		m.disk.Crash()
	case err != nil && !errors.Is(err, errFull):
		w.Fatalf("%s: close: %v", m.name, err)
	}
	w.start(m)
}

// fill has the disk be full from one of the next steps on, for that step.
func (w *machines) fill(m *member) {
	left := w.Rand.IntN(4)
	m.disk.Fail = func(op memory.Op) error {
		if op == memory.OpRead || op == memory.OpOpen || op == memory.OpCurrent || op == memory.OpRemove {
			return nil
		}
		if left--; left < 0 {
			return errFull
		}
		return nil
	}
	w.Logf("%s: the disk fills up", m.name)
}

// restore brings a member to where another is.
func (w *machines) restore(to, from *member) {
	if to == from || from.machine.Applied() <= to.machine.Applied() {
		return
	}
	b, v, ok := w.stage(from)
	if !ok {
		return
	}
	err := to.machine.Restore(bytes.NewReader(b), v)
	w.Logf("%s: restored at %d from %s: %v", to.name, v, from.name, err)
	if !w.survived(to, "restore", err) {
		return // it is what it was, or what it was to be: start checks
	}
	to.cut, to.next = uint64(v), uint64(v)+1
	if to.machine.Applied() != v {
		w.Fatalf("%s: restored at %d, applied %d", to.name, v, to.machine.Applied())
	}
}

func (w *machines) stage(m *member) ([]byte, store.Version, bool) {
	var b bytes.Buffer
	machine := m.machine
	m.disk.Pause(func(op memory.Op) { // meanwhile it goes on
		if op != memory.OpVerify || w.Rand.IntN(2) == 0 {
			return
		}
		pause := m.disk.Pause(nil)
		for range w.Rand.IntN(8) {
			w.propose()
			w.apply(m, 2)
			w.sync(m)
		}
		m.disk.Pause(pause)
	})
	v, err := machine.Stage(context.Background(), &b)
	m.disk.Pause(nil)
	if machine != m.machine {
		return nil, 0, false
	}
	return b.Bytes(), v, w.survived(m, "stage", err)
}

// damaged offers a member a snapshot that is not whole; it must stay as it was.
func (w *machines) damaged(to, from *member) {
	b, v, ok := w.stage(from)
	if !ok || len(b) == 0 || v < to.machine.Applied() {
		return
	}
	if w.Rand.IntN(2) == 0 {
		b = b[:w.Rand.IntN(len(b))]
	} else {
		b[w.Rand.IntN(len(b))] ^= 1 << w.Rand.IntN(8)
	}
	before := to.machine.Applied()
	err := to.machine.Restore(bytes.NewReader(b), v)
	if err == nil {
		w.Fatalf("%s: took over a damaged snapshot", to.name)
	}
	if errors.Is(err, memory.ErrPower) || errors.Is(err, errFull) {
		w.survived(to, "restore", err)
		return
	}
	if to.machine.Applied() != before {
		w.Fatalf("%s: a damaged snapshot moved it from %d to %d", to.name, before, to.machine.Applied())
	}
}
