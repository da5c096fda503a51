package history

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/test/kvnode/wire"
)

// fake is a store that keeps its word, one transaction a version, and writes the
// history of its one client.
type fake struct {
	*History
	version store.Version
	keys    map[string]wire.Item
	sums    map[string]int64
	clock   int64
}

func (f *fake) op(id string) *Op {
	f.clock += 10
	o := &Op{ID: id, Node: "n1", Tries: 1, Call: f.clock, Return: f.clock + 5, Outcome: OK}
	f.Add(o)
	return o
}

func (f *fake) tx(id string, tx wire.Tx) *Op {
	o := f.op(id)
	o.Tx = &tx
	for _, c := range tx.Checks {
		if f.keys[c.Key].Version != c.Version {
			o.Outcome, o.Kind = Refused, wire.Conflict
			return o
		}
	}
	for _, a := range tx.Adds {
		if f.sums[a.Counter]+a.Delta > a.Limit {
			o.Outcome, o.Kind = Refused, wire.Limit
			return o
		}
	}
	f.version += 2
	o.Done.Version = f.version
	for _, p := range tx.Puts {
		f.keys[p.Key] = wire.Item{Key: p.Key, Value: p.Value, Version: f.version}
	}
	for _, a := range tx.Adds {
		f.sums[a.Counter] += a.Delta
		o.Done.Sums = append(o.Done.Sums, f.sums[a.Counter])
	}
	for _, a := range tx.Appends {
		n := uint64(len(f.Logs[a.Log]))
		f.Logs[a.Log] = append(f.Logs[a.Log], wire.Leaf{Seq: n, Version: f.version, Data: a.Leaf})
		o.Done.Seqs = append(o.Done.Seqs, n)
	}
	return o
}

func (f *fake) logged(t *testing.T, id string, tx wire.Tx) *Op {
	t.Helper()
	if err := Logged(id, &tx); err != nil {
		t.Fatal(err)
	}
	return f.tx(id, tx)
}

func (f *fake) read(id string, r wire.Read) *Op {
	o := f.op(id)
	o.Read, o.View = &r, wire.View{Version: f.version, Logs: map[string]wire.Tree{}}
	for _, k := range slices.Sorted(func(yield func(string) bool) {
		for k := range f.keys {
			if !yield(k) {
				return
			}
		}
	}) {
		if slices.Contains(r.Keys, k) || slices.ContainsFunc(r.Prefixes, func(p string) bool { return strings.HasPrefix(k, p) }) {
			o.View.Items = append(o.View.Items, f.keys[k])
		}
	}
	for _, c := range r.Counters {
		o.View.Sums = append(o.View.Sums, f.sums[c])
	}
	for _, l := range r.Logs {
		o.View.Logs[l] = f.tree(l)
	}
	return o
}

func (f *fake) tree(name string) wire.Tree {
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(ix []int64) (out []tlog.Hash, _ error) {
		for _, i := range ix {
			out = append(out, hashes[i])
		}
		return out, nil
	})
	for i, l := range f.Logs[name] {
		more, _ := tlog.StoredHashes(int64(i), []byte(l.Data), reader)
		hashes = append(hashes, more...)
	}
	n := len(f.Logs[name])
	root, _ := tlog.TreeHash(int64(n), reader)
	return wire.Tree{Size: uint64(n), Root: root}
}

const (
	reg   = StateRegisters + "1"
	acc1  = "H/kv/tx/1"
	acc2  = "H/kv/tx/2"
	count = "S/kv/tx/count"
)

// good is a history with something of everything.
func good(t *testing.T) *fake {
	f := &fake{History: New(), version: 4, keys: map[string]wire.Item{}, sums: map[string]int64{}}
	f.tx("put-1", wire.Tx{Puts: []wire.Put{{Key: reg, Value: "a"}}})
	f.read("get-1", wire.Read{Keys: []string{reg}})
	f.tx("cas-1", wire.Tx{Checks: []wire.Check{{Key: reg, Version: f.version}}, Puts: []wire.Put{{Key: reg, Value: "b"}}}).Expect = "a"
	f.tx("cas-2", wire.Tx{Checks: []wire.Check{{Key: reg, Version: 6}}, Puts: []wire.Put{{Key: reg, Value: "c"}}}).Expect = "a"
	f.read("get-2", wire.Read{Keys: []string{reg}})
	for i := range 5 {
		f.tx(fmt.Sprint("audit-", i), wire.Tx{Appends: []wire.Append{{Log: AuditLog, Leaf: fmt.Sprint("audit-", i)}}})
	}
	f.logged(t, "tx-1", wire.Tx{Puts: []wire.Put{{Key: acc1, Value: "1"}, {Key: acc2, Value: "1"}}, Adds: []wire.Add{{Counter: count, Delta: 6, Limit: 10}}})
	old := f.version
	f.logged(t, "tx-2", wire.Tx{Checks: []wire.Check{{Key: acc1, Version: old}}, Puts: []wire.Put{{Key: acc1, Value: "2"}}})
	f.logged(t, "tx-3", wire.Tx{Checks: []wire.Check{{Key: acc1, Version: old}}, Puts: []wire.Put{{Key: acc1, Value: "3"}}})
	f.logged(t, "tx-4", wire.Tx{Adds: []wire.Add{{Counter: count, Delta: 5, Limit: 10}}})
	f.read("scan", wire.Read{Prefixes: []string{"H/kv/tx/"}, Counters: []string{count}, Logs: []string{TxLog, AuditLog}})
	f.read("local", wire.Read{Local: true, Least: f.version, Keys: []string{reg, acc1}})
	f.See(wire.Status{ID: "n2", Applied: f.version, Chain: "x", Logs: map[string]wire.Tree{AuditLog: f.tree(AuditLog)}})
	for _, id := range []string{"n1", "n2", "n3"} {
		f.Ends = append(f.Ends, wire.Status{ID: id, Applied: f.version, Chain: "x", Logs: map[string]wire.Tree{AuditLog: f.tree(AuditLog), TxLog: f.tree(TxLog)}})
	}
	return f
}

func (f *fake) find(id string) *Op {
	i := slices.IndexFunc(f.Ops, func(o *Op) bool { return o.ID == id })
	return f.Ops[i]
}

// unlog takes the leaf of an operation out of a log and closes the gap.
func (f *fake) unlog(log, id string) {
	f.Logs[log] = slices.DeleteFunc(f.Logs[log], func(l wire.Leaf) bool { return leafID(log, l.Data) == id })
	for i := range f.Logs[log] {
		f.Logs[log][i].Seq = uint64(i)
	}
}

// relog changes what the leaf of a transaction says.
func (f *fake) relog(id string, change func(*Entry)) {
	for i, l := range f.Logs[TxLog] {
		var e Entry
		if json.Unmarshal([]byte(l.Data), &e) == nil && e.ID == id {
			change(&e)
			b, _ := json.Marshal(e)
			f.Logs[TxLog][i].Data = string(b)
		}
	}
}

// TestChecksFind: nothing is found in a good history, and each violation planted
// in it is.
func TestChecksFind(t *testing.T) {
	for _, c := range []struct {
		name  string
		plant func(*fake)
		want  string
	}{
		{"nothing", func(*fake) {}, ""},
		{"an unknown outcome that happened", func(f *fake) { o := f.find("audit-2"); o.Outcome, o.Return = Unknown, Never }, ""},
		{"an unknown outcome that did not happen", func(f *fake) {
			o := f.op("audit-x")
			o.Tx, o.Outcome, o.Return = &wire.Tx{Appends: []wire.Append{{Log: AuditLog, Leaf: "audit-x"}}}, Unknown, Never
		}, ""},
		{"an unknown put that was never seen", func(f *fake) {
			o := f.op("put-x")
			o.Tx, o.Outcome, o.Return = &wire.Tx{Puts: []wire.Put{{Key: reg, Value: "x"}}}, Unknown, Never
		}, ""},
		{"a duplicate that knows no sequence", func(f *fake) {
			o := f.find("audit-2")
			o.Done = wire.Done{Version: o.Done.Version, Duplicate: true}
		}, ""},

		{"lost append", func(f *fake) { f.unlog(AuditLog, "audit-4") }, "lost"},
		{"lost transaction", func(f *fake) { f.unlog(TxLog, "tx-2") }, "lost"},
		{"lost put", func(f *fake) { f.find("get-2").View.Items[0] = wire.Item{Key: reg, Value: "a", Version: 6} }, "not linearizable"},
		{"lost put, seen by a local read", func(f *fake) { f.find("local").View.Items = nil }, "lost"},
		{"applied twice", func(f *fake) {
			f.Logs[AuditLog] = append(f.Logs[AuditLog], wire.Leaf{Seq: 5, Version: f.version, Data: "audit-1"})
		}, "applied twice"},
		{"refused and yet applied", func(f *fake) { f.find("audit-4").Outcome = Refused }, "happened though refused"},
		{"nobody's leaf", func(f *fake) {
			f.Logs[AuditLog] = append(f.Logs[AuditLog], wire.Leaf{Seq: 5, Version: f.version, Data: "audit-9"})
		}, "nobody's leaf"},
		{"acknowledged with another sequence", func(f *fake) { f.find("audit-3").Done.Seqs[0] = 2 }, "acknowledged elsewhere"},
		{"acknowledged with another version", func(f *fake) { f.find("audit-3").Done.Version-- }, "acknowledged elsewhere"},
		{"stale read", func(f *fake) { f.find("get-2").View = f.find("get-1").View }, "out of real-time order"},
		{"stale read that lies about its version", func(f *fake) { f.find("get-2").View.Items = f.find("get-1").View.Items }, "not linearizable"},
		{"a write at a version that was read before", func(f *fake) { f.find("audit-0").Done.Version = f.find("get-2").View.Version }, "out of real-time order"},
		{"a local read older than asked", func(f *fake) { f.find("local").View.Version = 3 }, "read of the past"},
		{"half a transaction", func(f *fake) { o := f.find("scan"); o.View.Items = o.View.Items[:1] }, "no such snapshot"},
		{"a value that never was", func(f *fake) { f.find("scan").View.Items[0].Value = "7" }, "no such snapshot"},
		{"a sum that never was", func(f *fake) { f.find("scan").View.Sums[0] = 7 }, "no such snapshot"},
		{"a log that has another size than its version", func(f *fake) {
			o := f.find("scan")
			o.View.Logs[AuditLog] = wire.Tree{}
		}, "no such snapshot"},
		{"overspent", func(f *fake) {
			f.relog("tx-1", func(e *Entry) { e.Adds[0].Delta = 16 })
		}, "overspent"},
		{"a sum past the limit", func(f *fake) { f.find("tx-1").Done.Sums[0] = 11 }, "wrong sum"},
		{"lost update", func(f *fake) {
			f.logged(t, "tx-9", wire.Tx{})
			f.relog("tx-9", func(e *Entry) { e.Checks = []wire.Check{{Key: acc1, Version: 1}} })
		}, "lost update"},
		{"a conflict without cause", func(f *fake) {
			o := f.find("tx-3")
			o.Tx.Checks[0].Version = f.keys[acc1].Version
		}, "refused without cause"},
		{"a limit without cause", func(f *fake) { f.find("tx-4").Tx.Adds[0].Delta = 1 }, "refused without cause"},
		{"a cas that won over another", func(f *fake) {
			o := f.find("cas-2")
			o.Outcome, o.Done.Version = OK, f.find("cas-1").Done.Version+1
		}, "not linearizable"},
		{"forked log", func(f *fake) { f.Sights[0].Status.Logs[AuditLog] = wire.Tree{Size: 3, Root: [32]byte{1}} }, "log forked"},
		{"forked log, same leaves in another order", func(f *fake) {
			g := f.Logs[AuditLog]
			g[0].Data, g[1].Data = g[1].Data, g[0].Data
		}, "log forked"},
		{"log cut", func(f *fake) { f.Logs[AuditLog] = f.Logs[AuditLog][:3] }, "log cut"},
		{"log with a gap", func(f *fake) { f.Logs[AuditLog] = slices.Delete(f.Logs[AuditLog], 1, 2) }, "log with a gap"},
		{"nodes that end apart", func(f *fake) { f.Ends[2].Chain = "y" }, "nodes differ"},
		{"nodes that once differed", func(f *fake) {
			f.See(wire.Status{ID: "n3", Applied: f.version, Chain: "y"})
		}, "nodes differ"},
	} {
		f := good(t)
		c.plant(f)
		wrong := f.Check()
		found := slices.ContainsFunc(wrong, func(s string) bool { return strings.HasPrefix(s, c.want+":") })
		if c.want == "" && len(wrong) > 0 || c.want != "" && !found {
			t.Errorf("%s: wanted %q, found %q", c.name, c.want, wrong)
		}
	}
}

// TestWriteIsWhole: what is kept of a failure holds every operation.
func TestWriteIsWhole(t *testing.T) {
	f := good(t)
	var b strings.Builder
	if err := f.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, o := range f.Ops {
		if !strings.Contains(b.String(), `"id":"`+o.ID+`"`) {
			t.Errorf("%s is missing", o.ID)
		}
	}
}
