package history

import (
	"encoding/json"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/cloister-os/cloister/test/kvnode/wire"
)

// leafID is the operation that a leaf belongs to.
func leafID(log, data string) string {
	if log == AuditLog {
		return data
	}
	var e Entry
	if json.Unmarshal([]byte(data), &e) != nil {
		return ""
	}
	return e.ID
}

// checkLogs: each log is without gap, its leaves are those of operations that may
// have happened, each once, at the sequences that were acknowledged; and every
// tree that anybody ever saw is a beginning of the tree as it ended.
func (h *History) checkLogs(r *report) {
	for _, name := range []string{TxLog, AuditLog} {
		at := map[string]wire.Leaf{}
		for i, l := range h.Logs[name] {
			if l.Seq != uint64(i) {
				r.add("log with a gap", "log %q has sequence %d where %d belongs", name, l.Seq, i)
			}
			if i > 0 && l.Version < h.Logs[name][i-1].Version {
				r.add("log out of order", "log %q has version %d after %d", name, l.Version, h.Logs[name][i-1].Version)
			}
			id := leafID(name, l.Data)
			if before, twice := at[id]; twice {
				r.add("applied twice", "log %q holds %q at %d and at %d", name, id, before.Seq, l.Seq)
			}
			at[id] = l
		}
		h.checkAcks(r, name, at)
		h.checkTrees(r, name)
	}
}

// checkAcks compares operations with the leaves that they appended.
func (h *History) checkAcks(r *report, name string, at map[string]wire.Leaf) {
	known := map[string]bool{}
	for _, o := range h.Ops {
		n := appendsTo(o, name)
		if n < 0 {
			continue
		}
		known[o.ID] = true
		l, there := at[o.ID]
		switch {
		case o.Outcome == OK && !there:
			r.add("lost", "%v was acknowledged at version %d and log %q does not hold it", o, o.Done.Version, name)
		case o.Outcome == OK && (l.Version != o.Done.Version || !o.Done.Duplicate && (n >= len(o.Done.Seqs) || o.Done.Seqs[n] != l.Seq)):
			r.add("acknowledged elsewhere", "%v was acknowledged as %v of version %d, log %q has it at %d of version %d", o, o.Done.Seqs, o.Done.Version, name, l.Seq, l.Version)
		case o.Outcome == Refused && there:
			r.add("happened though refused", "%v was refused (%s) and log %q holds it at %d", o, o.Why, name, l.Seq)
		}
	}
	for id, l := range at {
		if !known[id] {
			r.add("nobody's leaf", "log %q holds %q at %d, which nobody sent", name, id, l.Seq)
		}
	}
}

// appendsTo is the number of the append to a log in an operation, -1 = none.
func appendsTo(o *Op, log string) int {
	if o.Tx != nil {
		for i, a := range o.Tx.Appends {
			if a.Log == log {
				return i
			}
		}
	}
	return -1
}

// checkTrees compares every tree seen with the leaves as they ended.
func (h *History) checkTrees(r *report, name string) {
	leaves := h.Logs[name]
	roots := make([]tlog.Hash, 1, len(leaves)+1)
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = hashes[x]
		}
		return out, nil
	})
	for i, l := range leaves {
		more, err := tlog.StoredHashes(int64(i), []byte(l.Data), reader)
		if err != nil {
			r.add("log", "%q: %v", name, err)
			return
		}
		hashes = append(hashes, more...)
		root, err := tlog.TreeHash(int64(i+1), reader)
		if err != nil {
			r.add("log", "%q: %v", name, err)
			return
		}
		roots = append(roots, root)
	}
	see := func(who string, t wire.Tree) {
		switch {
		case t.Size > uint64(len(leaves)):
			r.add("log cut", "%s saw log %q with %d leaves, it ended with %d", who, name, t.Size, len(leaves))
		case t.Size > 0 && tlog.Hash(t.Root) != roots[t.Size]:
			r.add("log forked", "%s saw log %q with %d leaves and another root", who, name, t.Size)
		}
	}
	for _, o := range h.Ops {
		if t, ok := o.View.Logs[name]; ok {
			see(o.String(), t)
			if n := h.sizeAt(name, o); t.Size != n {
				r.add("no such snapshot", "%v saw log %q with %d leaves at version %d, it had %d", o, name, t.Size, o.View.Version, n)
			}
		}
	}
	for _, s := range append(h.Sights, endSights(h.Ends)...) {
		if t, ok := s.Status.Logs[name]; ok {
			see(fmt.Sprintf("%s at %s", s.Status.ID, ended(s.At)), t)
		}
	}
	for _, e := range h.Ends {
		if t, ok := e.Logs[name]; ok && t.Size != uint64(len(leaves)) {
			r.add("log cut", "%s ended with %d leaves of log %q, it has %d", e.ID, t.Size, name, len(leaves))
		}
	}
}

func endSights(ends []wire.Status) []Sight {
	out := make([]Sight, 0, len(ends))
	for _, e := range ends {
		out = append(out, Sight{Never, e})
	}
	return out
}

// sizeAt is how many leaves a log has at the version of a read.
func (h *History) sizeAt(name string, o *Op) uint64 {
	n := uint64(0)
	for _, l := range h.Logs[name] {
		if l.Version > o.View.Version {
			break
		}
		n++
	}
	return n
}
