// Package connect brings systems in: it keeps the list of sources and syncs them
// into the graph, at once when asked and again every few minutes.
//
// It promises: every fetch passes the guard, and a connector refuses to reach out
// without its permit; a source that fails or hangs does not hold up another; a
// sync that was cancelled, killed or ran out of disk goes on where it stopped; a
// scan that did not complete deletes nothing; a sync of what has not changed
// writes no claim; of several nodes one works on a source at a time, any shows
// how it fares and can be asked for a sync, and one that is away is said to be.
//
// The transports below it (transport/git, transport/files) speak to one kind of
// system each. It may import graph, graph/extract, store, store/blob, auth and
// auth/guard.
package connect

import (
	"context"
	"errors"
	"time"

	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/graph"
)

// Errors that callers tell apart, besides those of store and auth.
var (
	ErrExists  = errors.New("there is a source of that name already")
	ErrRemoved = errors.New("the source is removed or being removed")
)

// Connector reads one kind of system.
type Connector interface {
	// Kind is what a source names it by.
	Kind() string
	// Check says in one sentence why the source cannot be read, if so. It looks no
	// further than it must. The permit covers SourceFetch on the source.
	Check(ctx context.Context, permit *guard.Permit, src graph.Source) error
	// Scan reads what is new since the last one into the sink and removes what is
	// gone. It returns nil only if it saw everything; the sink then moves the
	// watermark. The permit covers SourceFetch on the source.
	Scan(ctx context.Context, permit *guard.Permit, src graph.Source, sink *Sink) error
}

// Progress is how far a sync is, or how the last one ended.
type Progress struct {
	V        uint      `cbor:"0,keyasint" json:"-"`
	Job      string    `cbor:"1,keyasint" json:"job"` // "" = there was none yet
	Running  bool      `cbor:"2,keyasint" json:"running"`
	Stage    string    `cbor:"3,keyasint" json:"stage"`            // one or two words for people
	Done     int64     `cbor:"4,keyasint" json:"done"`             // of the stage
	Total    int64     `cbor:"5,keyasint" json:"total"`            // of the stage; 0 = not known
	Records  int64     `cbor:"6,keyasint" json:"records"`          // written or removed
	Claims   int64     `cbor:"7,keyasint" json:"claims"`           // written
	Bodies   int64     `cbor:"8,keyasint" json:"bodies"`           // files or objects whose bytes were read
	Skipped  int64     `cbor:"9,keyasint" json:"skipped"`          // how many things were left out
	Skips    []Skip    `cbor:"10,keyasint,omitempty" json:"skips"` // the first MaxSkips of them
	Started  time.Time `cbor:"11,keyasint" json:"started,omitzero"`
	Finished time.Time `cbor:"12,keyasint" json:"finished,omitzero"` // zero while running
	Error    string    `cbor:"13,keyasint,omitempty" json:"error,omitempty"`
}

// same reports whether two that tell no skips tell the same.
func (p Progress) same(o Progress) bool {
	return p.Job == o.Job && p.Running == o.Running && p.Stage == o.Stage && p.Done == o.Done && p.Total == o.Total &&
		p.Records == o.Records && p.Claims == o.Claims && p.Bodies == o.Bodies && p.Skipped == o.Skipped && p.Error == o.Error
}

// MaxSkips is how many reasons Progress lists.
const MaxSkips = 100

// Skip is something that was left out of a scan, and why.
type Skip struct {
	What   string `cbor:"0,keyasint" json:"what"`
	Reason string `cbor:"1,keyasint" json:"reason"`
}

// Anywhere is implemented by connectors whose systems every node reaches alike.
// What others read lies on the machine of the node where the source was added.
type Anywhere interface{ Anywhere() bool }

// Status is a source with how its last sync went and how fresh it is.
type Status struct {
	graph.Source
	Progress  Progress  `json:"progress"`
	Watermark time.Time `json:"watermark,omitzero"` // zero until a scan completed
	// Away is since when the node that holds the source has not been heard of;
	// zero while it is there, or when every node reaches the source.
	Away time.Time `json:"away,omitzero"`
}
