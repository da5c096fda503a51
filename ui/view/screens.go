package view

import "time"

// Fingerprints are what an administrator notes down at setup.
type Fingerprints struct {
	Certificate string // of the node's CA, "SHA256:…"
	LogKey      string // of the audit log's signing key
}

// SetupForm is the setup screen's state.
type SetupForm struct {
	Code, User string
	Wrong      map[string]string // field → what is wrong
	Notice     *Notice
	Prints     Fingerprints
}

// SignInForm is the sign-in screen's state.
type SignInForm struct {
	User, Next string
	Notice     *Notice
}

// Source is a connected system.
type Source struct {
	Name, Kind string // Kind: "git" or "files"
	Path       string
	Node       string    // whose machine has the path; "" = every node reaches it
	Away       time.Time // since when that node has not been heard of; zero while it is there
	Audience   []string
	Tone       Tone
	State      string // "in step", "syncing", "failed", "never synced", …
	AsOf       time.Time
	Version    uint64
	Next       time.Time // next scheduled sync
	Counts     []Number  // documents, commits, people, …
	Sync       *Sync     // the sync going on, or the last one
	Try        []string  // questions that it can answer
}

// Number is a count with its name.
type Number struct {
	Name    string
	Value   int64
	AtLeast bool // there are more, uncounted
}

func (n Number) text() string {
	if n.AtLeast {
		return Count(n.Value) + "+"
	}
	return Count(n.Value)
}

// Sync is one pass over a source.
type Sync struct {
	Running bool
	Stage   string
	Done    int64
	Total   int64 // 0 = not known yet
	Started time.Time
	Ended   time.Time
	Error   string
	Written int64 // records written or removed
	Claims  int64
	Bodies  int64 // files or objects whose bytes were read
	Skipped []Skipped
	Skips   int64 // all of them; Skipped may be the first ones only
	Took    time.Duration
}

// Skipped is an item that a sync left out, and why.
type Skipped struct{ Item, Why string }

// SourceForm is the state of the form that connects a system.
type SourceForm struct {
	Kind, Name, Path string
	Audience         AudienceForm
	Wrong            map[string]string
	Notice           *Notice
}

// AudienceForm is the part of a form that says who may read a source.
type AudienceForm struct {
	Roles  []Choice
	Groups []Choice // that are known by name
	Others string   // other groups and people, one on each line
}

// Access is the screen of who sees what.
type Access struct {
	Sources []SourceAccess
	Hidden  []Hidden // what nobody sees
	Keys    bool     // API keys are told of
	Reader  string   // only what this one reads; "" = all
	Readers []Choice // who are named anywhere
}

// SourceAccess is who may read one source.
type SourceAccess struct {
	Source, Kind, Path string
	Audience           []string
	Everyone           bool // it names no audience
	Nobody             bool
	Readers            []Reader
	Groups             []Choice // that are known by name
}

// Reader is somebody who is named as a reader of a source.
type Reader struct {
	Kind     string // role, group, person, key
	ID, Name string // Name: of a key, or of a group that is known
	Reads    bool
	Roles    []string // one of which they need for that
	Policies []string
}

// Label is what people know the reader by.
func (r Reader) Label() string {
	if r.Name != "" {
		return r.Name
	}
	return r.ID
}

// Hidden is records that nobody sees: of a source that nobody may read, or of one
// that is not there any more.
type Hidden struct {
	Source  string
	There   bool
	Records Number
}

// Outcome is how a question ended.
type Outcome string

// The outcomes.
const (
	Answered Outcome = "answer"
	Closest  Outcome = "closest"
	Unknown  Outcome = "unknown"

	Kept       Outcome = "kept"   // a statement, which is remembered
	FromMemory Outcome = "memory" // the person told it, and no source states it
)

// Talk is a conversation: questions in a row, of which each can lean on those
// before.
type Talk struct {
	ID      string
	Title   string
	Turns   int
	Updated time.Time
	Last    Run   // the newest turn; of its answer only the outcome
	Runs    []Run // a page of the turns, oldest first
	Before  int   // the number of the first of them, when there are earlier ones
}

// Talks is a page of the list of conversations.
type Talks struct {
	List   []Talk
	Search string // what titles were looked for, "" = all
	Older  string // address of the next page, "" = there is none
	Newer  bool   // it is not the first page
}

// now is the newest turn on the page, if there is one.
func (t Talk) now() (Run, bool) {
	if len(t.Runs) == 0 {
		return Run{}, false
	}
	return t.Runs[len(t.Runs)-1], true
}

// Run is a question and what became of it.
type Run struct {
	ID       string
	Talk     string // the conversation that it is a turn of
	Earlier  bool   // it is not the newest on its page
	Stopped  bool
	Question string
	Memory   string // of a statement: the memory that it became
	Running  bool
	Failed   string // one line, when it failed
	Asked    time.Time
	Took     time.Duration
	Cost     int64 // nano-dollars
	Stages   []Stage
	Answer   *Answer
}

// mark is an id on the page that is the run's own.
func (r Run) mark(id string) string {
	if r.Earlier {
		return id + "-" + r.ID
	}
	return id
}

// Stage is one step of a run.
type Stage struct {
	Name string
	Tone Tone
	Note string
}

// Answer is what a run found.
type Answer struct {
	Outcome    Outcome
	Understood string
	Resolved   []Fact // what words of the question were taken to stand for
	Unclear    bool   // something that the question leans on is missing
	Spans      []Span // answer: what the sources state
	Note       string // closest, unknown: what there is to say instead
	Citations  []Citation
	Freshness  []Fresh
	Memories   []Told
}

// Told is a memory in an answer.
type Told struct {
	ID        string
	Role      string // "kept", "answer", "agrees", "beside"
	Sentence  string
	Words     string
	Replaces  string // the words whose place it took
	Created   time.Time
	Run       string
	Forgotten bool
}

// Memory is a fact that the person told.
type Memory struct {
	ID            string
	Words         string
	From, Until   time.Time // zero = it is not said
	Created       time.Time
	Run           string // in which it was said; "" = written on this page
	Before, After string // what was typed around the words
	Corrects      bool   // it was written as a correction
	Current       bool
	Superseded    time.Time
	Uses          int64
	Last          time.Time
}

// Over reports whether it has ended to hold.
func (m Memory) Over(now time.Time) bool { return !m.Until.IsZero() && !now.Before(m.Until) }

// Memories is the memory screen.
type Memories struct {
	List   []Memory // in force
	Total  int      // in force, before the search
	Kept   int      // with those that others took the place of
	Most   int      // that are kept
	Query  string
	Text   string // the form's field
	Wrong  map[string]string
	Notice *Notice
}

// MemoryEdit is the state of the form that corrects a memory.
type MemoryEdit struct {
	Memory Memory
	Text   string
	Wrong  map[string]string
	Notice *Notice
}

// Span is a piece of an answer's text.
type Span struct {
	Text   string
	Strong bool
	Cites  []int // 1-based numbers of citations
}

// Citation is one numbered piece of evidence.
type Citation struct {
	N       int
	Kind    string // "document" or "commit"
	Source  string
	Title   string
	Heading []string
	URI     string
	Text    string
	Raw     bool // Text is payload bytes, not prose
	Version uint64
	SHA256  string
	URL     string // opens the cited version
}

// Fresh says how fresh a source is.
type Fresh struct {
	Source string
	AsOf   time.Time
	Tone   Tone
	State  string
}

// Cited is one version of a text with the cited bytes marked.
type Cited struct {
	Source, Title, Record, URI string
	Kind                       string
	Heading                    []string
	Version                    uint64
	AsOf                       time.Time
	Before, Marked, After      string // the text around and in the range
	CutBefore, CutAfter        int64  // bytes that are not shown
	Start, End                 int64
	Raw                        bool
	Want, Got                  string // SHA-256 of the marked bytes: cited, and read now
	Blob                       string
	Changed                    bool // the source has a newer version
	Gone                       bool // the source no longer has it
	Newer                      time.Time
	Facts                      []Fact
	Run                        string
}

// Intact reports whether the bytes read are the bytes cited.
func (c Cited) Intact() bool { return c.Want != "" && c.Want == c.Got }

// Fact is a named text.
type Fact struct{ Name, Text string }

// Home is the first screen.
type Home struct {
	Sources []Source
	Recent  []Talk
	Log     Log
	Steps   []NextStep
	Models  []Model
	Hidden  bool     // the models are not this person's to see
	Try     []string // questions worth trying
	Manage  bool     // this person connects systems

	Elsewhere bool // this person neither asks nor connects anything
}

// NextStep is one line of "what to do next".
type NextStep struct {
	Title, Text string
	Done        bool
	Now         bool // the one to do first
	Action      Link
}

// Log is the audit log's state.
type Log struct {
	Size      uint64
	Key       string // fingerprint of the signing key
	Signed    uint64 // size at the last signed checkpoint
	SignedAt  time.Time
	Root      string
	Note      string // the signed checkpoint as text
	Available bool
}

// Record is one entry of the audit log.
type Record struct {
	Seq        uint64
	Version    uint64
	Time       time.Time
	ID         string
	Kind       string // intent, outcome, refusal, event
	Actor      string
	ActorKind  string
	OnBehalfOf string
	Action     string
	Resource   string // type and id
	Decision   string // allow, deny, ""
	Policies   []string
	ArgsSHA256 string
	Run        string
	UseCase    string
	Intent     string // outcome: the id of its intent
	Status     string
	Error      string
	Cost       int64
	Node       string
	Detail     []Fact
	Usage      []Fact
	JSON       string // the leaf as it was hashed
	LeafHash   string
	Proof      string // that the newest signed checkpoint holds it; "" = not signed yet
	ProofSteps int    // hashes in it
	ProofSize  uint64 // records under that checkpoint
}

// RecordFilter is what the audit explorer was asked for.
type RecordFilter struct {
	Kind, Action, Actor, Resource, Run string
	Result                             string // "allow", "deny", "ok", "failed", "in-doubt"
	Since                              string // "hour", "day", "week", "" = ever
	From, To                           string // times as typed, UTC; From goes before Since
}

// Empty reports whether nothing is filtered.
func (f RecordFilter) Empty() bool { return f == RecordFilter{} }

// Records is a page of the audit explorer.
type Records struct {
	Filter        RecordFilter
	Kinds         []Choice
	Actions       []Choice
	Times         []Choice
	Results       []Choice
	ExportURL     string // an export of the time that is looked at
	Rows          []Record
	Newer, Older  string // URLs; "" = none
	Log           Log
	Notice        *Notice
	Scanned       bool   // the search stopped at its bound before the page was full
	ExportCommand string // how to verify an export
}

// ExportForm is the state of the export screen.
type ExportForm struct {
	From, To string // sequences as typed; "" = from the first, to the last
	Since    string // times as typed, UTC; "" = ever
	Until    string
	Log      Log
	Notice   *Notice
	Command  string
	Compare  string // the command with --after
}

// Model is an installed model.
type Model struct {
	Name, Kind string // "completion", "embedding"
	Bytes      int64
	Digest     string
	Licence    string // its name
	Tone       Tone
	State      string
	Route      string // the route that leads to it, or ""
	Facts      []Fact
	Imported   time.Time
}

// Models is the models screen.
type Models struct {
	List   []Model
	Engine Fact // state of the engine
	Tone   Tone
	Path   string
	Wrong  string
	Import *Import
	Manage bool
}

// Import is a model import on its way.
type Import struct {
	Running     bool
	Stage       string
	Done, Total int64
	Error       string
	Ended       time.Time
}

// Licence is a model's licence in full.
type Licence struct {
	Model, Name, Text string
	Terms             bool   // it binds whoever uses the model
	Accepted          string // who accepted it
	Manage            bool   // this person may accept it
}

// Key is an API key without its secret.
type Key struct {
	ID, Name        string
	Scopes, Sources []string
	Owner           string
	Created         time.Time
	Expires         time.Time
}

// Keys is the API keys screen.
type Keys struct {
	List []Key
	Made *MadeKey
}

// MadeKey is a key just made; its secret is shown once.
type MadeKey struct {
	Key     Key
	Secret  string
	BaseURL string
}

// KeyForm is the state of the form that makes a key.
type KeyForm struct {
	Name    string
	Scopes  []Choice
	Sources []Choice
	TTLs    []Choice
	Wrong   map[string]string
	Notice  *Notice
}

// Policy is one Cedar policy.
type Policy struct {
	ID, Text string
	Effect   string // permit or forbid
	About    string // its @description or first comment
	Version  uint64
	Changed  time.Time
}

// Account is the account screen.
type Account struct {
	Expires time.Time
	Prints  Fingerprints
	Roles   []Choice
	Saved   *Notice
}

// Oops is an error screen.
type Oops struct {
	Tone    Tone
	Icon    string
	Status  int
	Title   string
	Text    string
	Facts   []Fact
	Actions []Link
}

// Confirm is a question before something that cannot be taken back.
type Confirm struct {
	Title   string
	Way     []Link // the way back; its last link is "keep it"
	Effects []string
	After   string
	Action  string // where the form goes
	Button  string
	Notice  *Notice
}
