package ui

import (
	"context"
	"io"
	"iter"
	"net/http"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/session"
	"github.com/cloister-os/cloister/ui/view"
)

// Sessions says who is there. *session.Service is one.
type Sessions interface {
	SetupNeeded(ctx context.Context) (bool, error)
	Setup(ctx context.Context, code, user, password string) (session.Session, string, error)
	Login(ctx context.Context, user, password string) (session.Session, string, error)
	Logout(ctx context.Context, r *http.Request) error
	Authenticate(r *http.Request) (auth.Principal, error)
	Middleware(next http.Handler) http.Handler
}

// The errors of the services below: auth.ErrDenied and auth.ErrUnauthenticated,
// store's kinds (ErrNotFound, ErrReadOnly, ErrBusy …), and *InputError for what
// the person can put right in the form.

// InputError says what is wrong with one field of a form. Field "" is the form
// as a whole.
type InputError struct{ Field, Text string }

func (e *InputError) Error() string { return e.Text }

// Sources are the connected systems that the principal may see.
type Sources interface {
	List(ctx context.Context, p auth.Principal) ([]view.Source, error)
	Get(ctx context.Context, p auth.Principal, name string) (view.Source, error)
	// Add connects a system (kind "git" or "files") and begins its first sync.
	Add(ctx context.Context, p auth.Principal, kind, name, path string) error
	Remove(ctx context.Context, p auth.Principal, name string) error
	// Sync begins a sync and does not wait for it.
	Sync(ctx context.Context, p auth.Principal, name string) error
	// Watch yields the source as it is and then whenever it changes.
	Watch(ctx context.Context, p auth.Principal, name string) iter.Seq2[view.Source, error]
}

// Runs are questions and what became of them.
type Runs interface {
	// Ask starts a run and returns its id without waiting for it. A form that is
	// sent again, because nobody answered, has the same once and starts no other.
	Ask(ctx context.Context, p auth.Principal, once, question string) (string, error)
	Get(ctx context.Context, p auth.Principal, id string) (view.Run, error)
	// Recent lists the principal's own runs before one of them ("" = newest).
	Recent(ctx context.Context, p auth.Principal, before string, limit int) ([]view.Run, error)
	// Watch yields the run as it is and then whenever it changes, until it ends.
	Watch(ctx context.Context, p auth.Principal, id string) iter.Seq2[view.Run, error]
}

// Cite names cited bytes.
type Cite struct {
	Source, Record string
	Version        uint64
	Start, End     int64
	SHA256         string // of the bytes, as cited; "" = not known
}

// Citations opens the cited version of a record, whatever became of it since.
type Citations interface {
	Open(ctx context.Context, p auth.Principal, c Cite) (view.Cited, error)
}

// RecordQuery is a page of the audit log, newest first.
type RecordQuery struct {
	view.RecordFilter
	Since  time.Time // zero = ever
	Before uint64    // records below this sequence; 0 = from the newest
	After  uint64    // when not 0: the page that ends just above this sequence
	Limit  int
}

// RecordPage is the answer to a RecordQuery.
type RecordPage struct {
	Rows    []view.Record
	Older   uint64 // Before of the next page; 0 = there is none
	Newer   bool   // there are newer records
	Scanned bool   // the search stopped at its bound
}

// Records is the audit log.
type Records interface {
	List(ctx context.Context, p auth.Principal, q RecordQuery) (RecordPage, error)
	Get(ctx context.Context, p auth.Principal, seq uint64) (view.Record, error)
	// Log tells the log's size and its newest checkpoint. It leaves no record.
	Log(ctx context.Context, p auth.Principal) (view.Log, error)
	// Export writes a bundle with the records from ≤ seq < to (0 = all). It writes
	// nothing before it is permitted.
	Export(ctx context.Context, p auth.Principal, from, to uint64, w io.Writer) error
}

// Models are the models on this node.
type Models interface {
	List(ctx context.Context, p auth.Principal) (view.Models, error)
	// Routes tells which routes lead to each model.
	Routes(ctx context.Context, p auth.Principal) (map[string][]string, error)
	Licence(ctx context.Context, p auth.Principal, name string) (view.Licence, error)
	// Import begins to import a pack that lies on the node.
	Import(ctx context.Context, p auth.Principal, path string) error
	// Importing tells how the newest import fares; nil = there was none.
	Importing(ctx context.Context, p auth.Principal) (*view.Import, error)
	Accept(ctx context.Context, p auth.Principal, name string) error // the terms, for the installation
	Remove(ctx context.Context, p auth.Principal, name string) error
}

// KeySpec is what a new API key should be able to do.
type KeySpec struct {
	Name            string
	Scopes, Sources []string
	TTL             time.Duration
}

// Keys are the API keys.
type Keys interface {
	List(ctx context.Context, p auth.Principal) ([]view.Key, error)
	// Create returns the key and its secret, which is not kept.
	Create(ctx context.Context, p auth.Principal, spec KeySpec) (view.Key, string, error)
	Revoke(ctx context.Context, p auth.Principal, id string) error
}

// Nodes are the machines that run this installation together.
type Nodes interface {
	List(ctx context.Context, p auth.Principal) (view.Nodes, error)
	// Invite returns the command for one new machine; its token is not kept.
	Invite(ctx context.Context, p auth.Principal) (view.Invitation, error)
	Lead(ctx context.Context, p auth.Principal, node string) error
	Remove(ctx context.Context, p auth.Principal, node string) error
}

// Policies are the Cedar policies.
type Policies interface {
	List(ctx context.Context, p auth.Principal) ([]view.Policy, error)
	Get(ctx context.Context, p auth.Principal, id string) (view.Policy, error)
}
