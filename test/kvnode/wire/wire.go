// Package wire is what a kvnode and its clients say to each other: JSON over
// HTTPS. It promises that an answer tells apart what surely did not happen from
// what may have happened. It imports store alone.
package wire

import (
	"time"

	"github.com/cloister-os/cloister/store"
)

// The paths of a kvnode.
const (
	TxPath     = "/v1/tx"     // POST Tx → Done, or a Problem
	ReadPath   = "/v1/read"   // POST Read → View, or a Problem
	LogPath    = "/v1/log"    // GET ?name=&from= → Leaves, or a Problem
	StatusPath = "/v1/status" // GET → Status; answers while the node cannot serve
	AdminPath  = "/v1/admin"  // POST Admin → {} or a Problem
)

// Tx is one transaction. Keys and counters lie under S/kv/ or H/kv/.
type Tx struct {
	// Once, when set, is an idempotency key: a second Tx with the same one
	// changes nothing and is answered with the version that the first got.
	Once    string   `json:"once,omitempty"`
	Checks  []Check  `json:"checks,omitempty"`
	Puts    []Put    `json:"puts,omitempty"`
	Deletes []string `json:"deletes,omitempty"`
	Appends []Append `json:"appends,omitempty"`
	Adds    []Add    `json:"adds,omitempty"`
	Bulk    bool     `json:"bulk,omitempty"`
}

// Check is a precondition: the key's version, 0 = absent.
type Check struct {
	Key     string        `json:"key"`
	Version store.Version `json:"version"`
}

// Put sets a key.
type Put struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Append adds a leaf to a log.
type Append struct {
	Log  string `json:"log"`
	Leaf string `json:"leaf"`
}

// Add changes a counter that may not pass Limit.
type Add struct {
	Counter string        `json:"counter"`
	Delta   int64         `json:"delta"`
	Limit   int64         `json:"limit"`
	Window  time.Duration `json:"window,omitempty"`
}

// Done says what a transaction did.
type Done struct {
	Version   store.Version `json:"version"`
	Seqs      []uint64      `json:"seqs,omitempty"`
	Sums      []int64       `json:"sums,omitempty"`
	Duplicate bool          `json:"duplicate,omitempty"` // it had happened before; Seqs and Sums are unknown
}

// Read asks for keys, whole prefixes, counters and logs at one version.
type Read struct {
	Local    bool          `json:"local,omitempty"` // this node's state instead of a fresh one
	Least    store.Version `json:"least,omitempty"` // Local: wait until this version is here
	Keys     []string      `json:"keys,omitempty"`
	Prefixes []string      `json:"prefixes,omitempty"`
	Counters []string      `json:"counters,omitempty"`
	Logs     []string      `json:"logs,omitempty"`
}

// View is what a Read saw. A key that does not exist is not among Items.
type View struct {
	Version store.Version   `json:"version"`
	Items   []Item          `json:"items,omitempty"`
	Sums    []int64         `json:"sums,omitempty"` // of Counters, in order
	Logs    map[string]Tree `json:"logs,omitempty"`
}

// Item is a key's value and the version that wrote it.
type Item struct {
	Key     string        `json:"key"`
	Value   string        `json:"value"`
	Version store.Version `json:"version"`
}

// Tree is a log as it stood.
type Tree struct {
	Size uint64   `json:"size"`
	Root [32]byte `json:"root"`
}

// Leaves is a page of a log.
type Leaves struct {
	Leaves []Leaf `json:"leaves"`
	Size   uint64 `json:"size"`
}

// Leaf is a record of a log.
type Leaf struct {
	Seq     uint64        `json:"seq"`
	Version store.Version `json:"version"`
	Time    time.Time     `json:"time"`
	Data    string        `json:"data"`
}

// Status is a node's own account of itself.
type Status struct {
	ID       string          `json:"id"`
	Applied  store.Version   `json:"applied"`
	Chain    string          `json:"chain"` // over all that was decided up to Applied
	Leader   string          `json:"leader,omitempty"`
	Leads    bool            `json:"leads"`
	Terms    int             `json:"terms"`              // changes of leadership seen since the start
	Trouble  string          `json:"trouble,omitempty"`  // why it cannot serve; "" when it can
	ReadOnly string          `json:"readonly,omitempty"` // why nothing can be written here
	Members  []Member        `json:"members,omitempty"`
	Logs     map[string]Tree `json:"logs,omitempty"` // at Applied or a little before
}

// Member is a node of the cluster as the asked one sees it.
type Member struct {
	ID      string        `json:"id"`
	Address string        `json:"address"`
	Voter   bool          `json:"voter"`
	Leader  bool          `json:"leader"`
	Healthy bool          `json:"healthy"`
	Applied store.Version `json:"applied"`
	Note    string        `json:"note,omitempty"`
}

// Admin changes the cluster.
type Admin struct {
	Do      string `json:"do"` // add, remove, transfer, readdress, stage, finalise
	ID      string `json:"id,omitempty"`
	Address string `json:"address,omitempty"` // add, readdress
}

// Kind says what a Problem means for whoever asked.
type Kind string

// The kinds. After Unknown the transaction may have happened; after any other it
// surely did not.
const (
	Conflict Kind = "conflict"
	Limit    Kind = "limit"
	Invalid  Kind = "invalid"
	Busy     Kind = "busy"
	ReadOnly Kind = "read-only"
	Gone     Kind = "gone" // the version asked for is no longer kept
	Unknown  Kind = "unknown"
)

// Problem is the body of an answer that is not 200.
type Problem struct {
	Kind   Kind   `json:"kind"`
	Detail string `json:"detail"`
	// Of Limit: the counter's sum before the refused addition.
	Sum int64 `json:"sum,omitempty"`
}
