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
	// Add connects a system (kind "git" or "files") for an audience and begins its
	// first sync.
	Add(ctx context.Context, p auth.Principal, kind, name, path string, audience []string) error
	Remove(ctx context.Context, p auth.Principal, name string) error
	// Sync begins a sync and does not wait for it.
	Sync(ctx context.Context, p auth.Principal, name string) error
	// Watch yields the source as it is and then whenever it changes.
	Watch(ctx context.Context, p auth.Principal, name string) iter.Seq2[view.Source, error]
}

// Access is who may read which source. Whoever manages access sees it whether or
// not they may read the source.
type Access interface {
	List(ctx context.Context, p auth.Principal) (view.Access, error)
	Get(ctx context.Context, p auth.Principal, source string) (view.SourceAccess, error)
	// Groups are the groups whose names are known, for whoever may see them.
	Groups(ctx context.Context, p auth.Principal) ([]view.Choice, error)
	// Set says anew who may read a source.
	Set(ctx context.Context, p auth.Principal, source string, audience []string) error
}

// DirectorySpec is how to reach and read a directory.
type DirectorySpec struct {
	Name                                                string
	Servers                                             []string
	CA, BindDN, Password, Base, GroupBase, Kind, Filter string
}

// Directories are what people sign in by, beside local accounts. A report is nil
// when no step was made.
type Directories interface {
	List(ctx context.Context, p auth.Principal) ([]view.Directory, error)
	// Add walks the connection and joins the directory when that ends well.
	Add(ctx context.Context, p auth.Principal, s DirectorySpec) (*view.DirectoryReport, error)
	Test(ctx context.Context, p auth.Principal, s DirectorySpec, person string) (*view.DirectoryReport, error)
	TestJoined(ctx context.Context, p auth.Principal, name, person string) (*view.DirectoryReport, error)
	Remove(ctx context.Context, p auth.Principal, name string) error
	// Groups lists groups whose name contains the text, and whether there are more.
	Groups(ctx context.Context, p auth.Principal, name, text string) ([]view.DirectoryGroup, bool, error)
	Grant(ctx context.Context, p auth.Principal, name, group, role string) error
	Revoke(ctx context.Context, p auth.Principal, name, group, role string) error
}

// Runs are questions and what became of them.
type Runs interface {
	// Ask starts a run, as the next turn of a conversation when talk names one, and
	// returns the conversation's id without waiting for the run. A form that is sent
	// again, because nobody answered, has the same once and starts no other.
	Ask(ctx context.Context, p auth.Principal, once, talk, question string) (string, error)
	// Watch yields the run as it is and then whenever it changes, until it ends.
	Watch(ctx context.Context, p auth.Principal, id string) iter.Seq2[view.Run, error]
	Stop(ctx context.Context, p auth.Principal, id string) error
}

// Talks are the principal's own conversations.
type Talks interface {
	// List lists those with a text in their title, the newest first, before one of
	// an earlier page ("" = from the newest). older is "" on the last page.
	List(ctx context.Context, p auth.Principal, title, before string, limit int) (list []view.Talk, older string, err error)
	// Get is a conversation with its newest turns, or, when before is not 0, those
	// before that number.
	Get(ctx context.Context, p auth.Principal, id string, before int) (view.Talk, error)
	Rename(ctx context.Context, p auth.Principal, id, title string) error
	Delete(ctx context.Context, p auth.Principal, id string) error
}

// Memories are what the principal told, and nobody else's.
type Memories interface {
	// List tells all, the newest first.
	List(ctx context.Context, p auth.Principal) ([]view.Memory, error)
	// Get explains one, with all that was said of the same, the newest first.
	Get(ctx context.Context, p auth.Principal, id string) (m view.Memory, chain []view.Memory, err error)
	// Add remembers a fact. A form that is sent again has the same once and adds no
	// other.
	Add(ctx context.Context, p auth.Principal, once, text string) error
	// Edit puts a correction in a memory's place and returns its id.
	Edit(ctx context.Context, p auth.Principal, id, once, text string) (string, error)
	Forget(ctx context.Context, p auth.Principal, id string) error // with all before and after it
	ForgetAll(ctx context.Context, p auth.Principal) error
	// Undo forgets one memory alone; the one whose place it took is back.
	Undo(ctx context.Context, p auth.Principal, id string) error
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
	Until  time.Time // zero = now
	Before uint64    // records below this sequence; 0 = from the newest
	After  uint64    // when not 0: the page that ends just above this sequence
	Limit  int
}

// RecordRange is From ≤ sequence < To (0 = to the newest) and Since ≤ time < Until.
type RecordRange struct {
	From, To     uint64
	Since, Until time.Time
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
	// Export writes a bundle with the records of a range. It writes nothing before
	// it is permitted.
	Export(ctx context.Context, p auth.Principal, r RecordRange, w io.Writer) error
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
