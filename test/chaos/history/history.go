// Package history keeps what clients of a cluster did and saw, and judges it.
//
// It promises: Check finds a write that was acknowledged and is lost, one that
// was applied twice, one that happened although it was refused, a read of the
// past, a snapshot that never was, a counter past its limit, and a log that
// forked or has a gap; and it finds nothing in a history that a store which keeps
// its word can give. What it needs of clients is that every value, leaf and id is
// used once, and that every transaction on the replayed keys appends itself to
// the log TxLog.
//
// It may import test/kvnode/wire and, of Cloister, store.
package history

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/test/kvnode/wire"
)

// The names that the checks know.
const (
	TxLog    = "tx"    // every transaction on replayed keys and counters, as an Entry
	AuditLog = "audit" // leaves that are ids of operations
	// Registers are keys written without a log, checked one by one.
	StateRegisters   = "S/kv/reg/"
	HistoryRegisters = "H/kv/reg/"
	// Replayed are keys and counters written by transactions in TxLog alone.
	Replayed = "kv/tx/"
)

// Outcome is what a client knows of an operation.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "ok"
	Refused Outcome = "refused" // it surely did not happen
	Unknown Outcome = "unknown"
)

// Never is the Return of an operation of unknown outcome.
const Never int64 = math.MaxInt64

// Op is an operation of a client with all its tries.
type Op struct {
	ID      string     `json:"id"`
	Client  int        `json:"client"`
	Node    string     `json:"node"` // which answered, or was asked last
	Tries   int        `json:"tries"`
	Call    int64      `json:"call"`   // nanoseconds since the start
	Return  int64      `json:"return"` // Never when the outcome is unknown
	Outcome Outcome    `json:"outcome"`
	Why     string     `json:"why,omitempty"` // of Refused and Unknown
	Kind    wire.Kind  `json:"kind,omitempty"`
	Tx      *wire.Tx   `json:"tx,omitempty"`   // this or
	Read    *wire.Read `json:"read,omitempty"` // this
	Done    wire.Done  `json:"done,omitzero"`
	View    wire.View  `json:"view,omitzero"`
	// Expect is the value of a register at the version that Tx checks.
	Expect string `json:"expect,omitempty"`
}

// Entry is a transaction as its leaf in TxLog tells it.
type Entry struct {
	ID     string       `json:"id"`
	Checks []wire.Check `json:"checks,omitempty"`
	Puts   []wire.Put   `json:"puts,omitempty"`
	Adds   []wire.Add   `json:"adds,omitempty"`
}

// Logged gives a transaction the leaf that tells it.
func Logged(id string, tx *wire.Tx) error {
	leaf, err := json.Marshal(Entry{ID: id, Checks: tx.Checks, Puts: tx.Puts, Adds: tx.Adds})
	if err != nil {
		return err
	}
	tx.Appends = append(tx.Appends, wire.Append{Log: TxLog, Leaf: string(leaf)})
	return nil
}

// Sight is what a node said of itself at some time.
type Sight struct {
	At     int64       `json:"at"`
	Status wire.Status `json:"status"`
}

// History is everything that was seen of a cluster.
type History struct {
	mu     sync.Mutex
	start  time.Time
	Ops    []*Op
	Sights []Sight
	// Logs are the logs as they ended.
	Logs map[string][]wire.Leaf
	// Ends are the nodes as they ended, when nothing was written any more.
	Ends []wire.Status
}

// New returns an empty history that begins now.
func New() *History { return &History{start: time.Now(), Logs: map[string][]wire.Leaf{}} }

// Now is the time in the history.
func (h *History) Now() int64 { return int64(time.Since(h.start)) }

// Add adds an operation that has ended.
func (h *History) Add(o *Op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Ops = append(h.Ops, o)
}

// See adds what a node said.
func (h *History) See(s wire.Status) {
	at := h.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Sights = append(h.Sights, Sight{at, s})
}

// Len is how many operations have ended.
func (h *History) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.Ops)
}

// Count counts operations by outcome.
func (h *History) Count() map[Outcome]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := map[Outcome]int{}
	for _, o := range h.Ops {
		n[o.Outcome]++
	}
	return n
}

// Write writes the history as lines of JSON.
func (h *History) Write(w io.Writer) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := json.NewEncoder(w)
	for _, o := range h.Ops {
		if err := e.Encode(o); err != nil {
			return err
		}
	}
	for _, s := range h.Sights {
		if err := e.Encode(s); err != nil {
			return err
		}
	}
	for _, name := range []string{TxLog, AuditLog} {
		for _, l := range h.Logs[name] {
			if err := e.Encode(map[string]any{"log": name, "leaf": l}); err != nil {
				return err
			}
		}
	}
	return e.Encode(map[string]any{"ends": h.Ends})
}

// Check judges a history that has ended. What it returns is a sentence each.
func (h *History) Check() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	slices.SortFunc(h.Ops, func(a, b *Op) int { return int(a.Call - b.Call) })
	r := &report{}
	h.checkOrder(r)
	h.checkLogs(r)
	h.checkEnds(r)
	h.replay(r)
	h.checkReads(r)
	h.checkRegisters(r)
	return r.wrong
}

// report collects violations, a bounded number of each sort.
type report struct {
	wrong []string
	count map[string]int
}

const maxOfASort = 5

func (r *report) add(sort, format string, args ...any) {
	if r.count == nil {
		r.count = map[string]int{}
	}
	if r.count[sort]++; r.count[sort] <= maxOfASort {
		r.wrong = append(r.wrong, sort+": "+fmt.Sprintf(format, args...))
	}
}

func (o *Op) String() string {
	return fmt.Sprintf("%s on %s [%.6fs, %s]", o.ID, o.Node, float64(o.Call)/1e9, ended(o.Return))
}

func ended(at int64) string {
	if at == Never {
		return "never"
	}
	return fmt.Sprintf("%.6fs", float64(at)/1e9)
}

// version is the version at which an operation took effect, 0 = unknown or none.
func (o *Op) version() store.Version {
	switch {
	case o.Outcome != OK:
		return 0
	case o.Tx != nil:
		return o.Done.Version
	case o.Read.Local:
		return 0 // it may be of the past
	default:
		return o.View.Version
	}
}

// checkOrder: what began after another ended has a later version; a read may
// have the same.
func (h *History) checkOrder(r *report) {
	byReturn := slices.Clone(h.Ops)
	slices.SortFunc(byReturn, func(a, b *Op) int {
		if a.Return < b.Return {
			return -1
		}
		return 1
	})
	var newest *Op // of those that had returned
	for i, j := 0, 0; i < len(h.Ops); i++ {
		o := h.Ops[i]
		for ; j < len(byReturn) && byReturn[j].Return < o.Call; j++ {
			if v := byReturn[j].version(); v > 0 && (newest == nil || v > newest.version()) {
				newest = byReturn[j]
			}
		}
		v := o.version()
		if v == 0 || newest == nil {
			continue
		}
		if v < newest.version() || o.Tx != nil && v == newest.version() {
			r.add("out of real-time order", "%v got version %d after %v, which had ended before, got %d", o, v, newest, newest.version())
		}
	}
}

// checkEnds: all nodes end equal, and never had two opinions of one version.
func (h *History) checkEnds(r *report) {
	for _, e := range h.Ends {
		if e.Applied != h.Ends[0].Applied || e.Chain != h.Ends[0].Chain {
			r.add("nodes differ", "at the end %s is at %d %s and %s is at %d %s",
				h.Ends[0].ID, h.Ends[0].Applied, h.Ends[0].Chain, e.ID, e.Applied, e.Chain)
		}
	}
	chains := map[store.Version]wire.Status{}
	for _, s := range h.Sights {
		if s.Status.Applied == 0 {
			continue
		}
		if other, ok := chains[s.Status.Applied]; ok && other.Chain != s.Status.Chain {
			r.add("nodes differ", "at version %d %s had the chain %s and %s had %s", s.Status.Applied, other.ID, other.Chain, s.Status.ID, s.Status.Chain)
		}
		chains[s.Status.Applied] = s.Status
	}
}

func replayedKey(k string) bool { return len(k) > 2 && strings.HasPrefix(k[2:], Replayed) }

func registerKey(k string) bool {
	return strings.HasPrefix(k, StateRegisters) || strings.HasPrefix(k, HistoryRegisters)
}
