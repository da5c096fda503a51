package machine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine/kv"
)

// session is what the machine remembers of a node's present life, so that a
// transaction sent twice is applied once. It mirrors the outcome records of the
// state database: one for each group and origin, dropped when all its sequences
// are below what the origin may still repeat. The newest stays, since it holds
// the boot and the floor.
type session struct {
	node    string
	boot    uint64
	floor   uint64 // sequences below it are refused
	highest uint64 // highest sequence decided
	records []outcomeRecord
}

// outcomeRecord is the outcomes of one origin in one group.
type outcomeRecord struct {
	index    uint64
	time     time.Time
	seqs     []uint64
	outcomes []Outcome
	highest  uint64
}

// has reports a sequence of the record. The usual sequence of a group is higher
// than all before it, so this rarely looks.
func (r *outcomeRecord) has(seq uint64) bool { return seq <= r.highest && slices.Contains(r.seqs, seq) }

// find returns the outcome of a sequence that was decided before. The usual
// sequence is higher than all before it, so this rarely looks.
func (s *session) find(seq uint64) (Outcome, bool) {
	if seq > s.highest {
		return Outcome{}, false
	}
	for i := range s.records {
		r := &s.records[i]
		for j, have := range r.seqs {
			if have == seq {
				o := r.outcomes[j]
				o.Version, o.Time = store.Version(r.index), r.time
				return o, true
			}
		}
	}
	return Outcome{}, false
}

// begin prepares the session for a group of an origin. It returns false when
// the origin is an earlier life of the node, whose transactions are all refused.
// The deletes are the records of a life that has ended.
func (s *session) begin(o Origin, puts []kv.Write) ([]kv.Write, bool) {
	if o.Boot < s.boot {
		return puts, false
	}
	if o.Boot > s.boot {
		for _, r := range s.records {
			puts = append(puts, kv.Write{Key: outcomeKey(s.node, r.index), Deleted: true})
		}
		*s = session{node: s.node, boot: o.Boot}
	}
	s.floor = max(s.floor, o.Lowest)
	return puts, true
}

// keep adds a group's record and drops the oldest that nobody can ask for.
func (s *session) keep(r outcomeRecord, puts []kv.Write) []kv.Write {
	drop := 0
	for drop < len(s.records) && s.records[drop].highest < s.floor {
		puts = append(puts, kv.Write{Key: outcomeKey(s.node, s.records[drop].index), Deleted: true})
		drop++
	}
	s.records = append(s.records[drop:], r)
	s.highest = max(s.highest, r.highest)
	return append(puts, kv.Write{Key: outcomeKey(s.node, r.index), Value: s.encode(&r)})
}

// encode writes [1, boot, floor, time in ns, [[sequence, outcome]…]].
func (s *session) encode(r *outcomeRecord) []byte {
	b := make([]byte, 0, 32+16*len(r.seqs))
	b = appendUint(appendUint(appendArray(b, 5), 1), s.boot)
	b = appendInt(appendUint(b, s.floor), r.time.UnixNano())
	b = appendArray(b, len(r.seqs))
	for i, seq := range r.seqs {
		b = appendUint(appendArray(b, 2), seq)
		b = r.outcomes[i].append(b)
	}
	return b
}

func (s *session) load(index uint64, b []byte) error {
	r := &reader{b: b}
	r.fixed(5)
	if v := r.uint(); r.err == nil && v != 1 {
		return fmt.Errorf("outcomes of version %d: this program knows version 1; upgrade it", v)
	}
	s.boot, s.floor = r.uint(), r.uint()
	rec := outcomeRecord{index: index, time: time.Unix(0, r.int()).UTC()}
	for range r.array() {
		r.fixed(2)
		rec.seqs = append(rec.seqs, r.uint())
		rec.outcomes = append(rec.outcomes, readOutcome(r))
		rec.highest = max(rec.highest, rec.seqs[len(rec.seqs)-1])
	}
	s.records = append(s.records, rec)
	s.highest = max(s.highest, rec.highest)
	return r.end()
}

// loadSessions reads all sessions from the state database.
func loadSessions(r kv.Reader) (map[string]*session, error) {
	all := map[string]*session{}
	c := r.Scan(kv.Range{Prefix: []byte{kindOutcome}})
	defer c.Close()
	for c.Seek(nil); c.Valid(); c.Next() {
		k := c.Key()
		if len(k) < 11 {
			return nil, fmt.Errorf("%w: outcome key of %d bytes", errMalformed, len(k))
		}
		node := string(k[3 : len(k)-8])
		s := all[node]
		if s == nil {
			s = &session{node: node}
			all[node] = s
		}
		index := binary.BigEndian.Uint64(k[len(k)-8:])
		v, err := c.Value()
		if err == nil {
			err = s.load(index, bytes.Clone(v))
		}
		if err != nil {
			return nil, fmt.Errorf("outcomes of node %s: %w", node, err)
		}
	}
	return all, nil
}
