package answer

import (
	"time"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/store"
)

// Shape is a kind of question that a typed query answers.
type Shape string

// The shapes. ByText is for every other question.
const (
	ByText        Shape = "text"
	LastChange    Shape = "last_change"    // who last changed X, and when
	FirstAdded    Shape = "first_added"    // when was X added, by whom, and in which release
	Removed       Shape = "removed"        // when was X removed, and by whom
	WhichDocument Shape = "which_document" // which document explains Z
	History       Shape = "history"        // what happened to X
	CountCommits  Shape = "count_commits"  // how many commits (by P) (to X) (in a window)
	CountPeople   Shape = "count_people"   // how many people worked on X
	Contributors  Shape = "contributors"   // who worked on X
	PersonDid     Shape = "person_did"     // what did P do
	ReleaseOf     Shape = "release"        // when was release R made; what is the latest release
	CountThings   Shape = "count_things"   // how many documents, releases, people
	HowFresh      Shape = "how_fresh"      // how fresh is source Q
	Why           Shape = "why"            // what the commit that an earlier turn found says of itself
	Unresolved    Shape = "unresolved"     // it leans on something that the conversation does not have
)

// Subject is what a shape is about: entities that the question names, or a
// phrase to look for in commit messages.
type Subject struct {
	Entity graph.EntityID `json:"entity,omitzero"`
	Type   graph.Type     `json:"type,omitempty"`
	Source string         `json:"source,omitempty"`
	Name   string         `json:"name,omitempty"`   // as the source has it
	Phrase string         `json:"phrase,omitempty"` // of a feature: as the question has it
	Exact  bool           `json:"exact,omitempty"`  // named letter by letter
}

// Window is a stretch of time [From, To); a zero end is open.
type Window struct {
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	Text string    `json:"text,omitempty"` // the words that said so
}

// IsZero reports whether the question named no time.
func (w Window) IsZero() bool { return w.From.IsZero() && w.To.IsZero() }

func (w Window) holds(t time.Time) bool {
	return (w.From.IsZero() || !t.Before(w.From)) && (w.To.IsZero() || t.Before(w.To))
}

// Plan is what a question was understood as.
type Plan struct {
	Question   Question      `json:"question"`
	Version    store.Version `json:"version"`
	Time       time.Time     `json:"time"` // leader time of the version
	Understood string        `json:"understood"`
	Shape      Shape         `json:"shape"`
	Subject    Subject       `json:"subject,omitzero"`
	By         Subject       `json:"by,omitzero"` // a person, beside the subject
	Window     Window        `json:"window,omitzero"`
	Wants      Wants         `json:"wants,omitzero"`
	Thing      string        `json:"thing,omitempty"`   // CountThings: what is counted
	Search     string        `json:"search,omitempty"`  // what is looked for by text
	Missing    []string      `json:"missing,omitempty"` // names in the question that no source knows
	Others     []Subject     `json:"others,omitempty"`  // what the name could mean as well
	Sources    []string      `json:"sources,omitempty"` // that were open to the asker; whoever journals the plan says so

	// Of a question that leans on earlier turns.
	Text     string     `json:"as,omitempty"`       // the question with what they named put in
	Resolved []Resolved `json:"resolved,omitempty"` // what was put in
	Place    Place      `json:"place,omitzero"`     // which change is meant, seen from one of theirs
	Besides  []Subject  `json:"besides,omitempty"`  // people who do not count
	Unclear  string     `json:"unclear,omitempty"`  // Unresolved: what is missing, as a sentence
}

// Wants is what a question asks to be told; an answer must hold it.
type Wants struct {
	Who     bool `json:"who,omitempty"`
	When    bool `json:"when,omitempty"`
	Release bool `json:"release,omitempty"`
}

// Part names which bytes of a record a citation is of.
type Part string

// The parts.
const (
	TextPart    Part = "text"    // the extracted text of a document
	PayloadPart Part = "payload" // what the source said
)

// Quote is a range of a record with the bytes that stood there.
type Quote struct {
	Record graph.RecordID `json:"record"`
	Part   Part           `json:"part"`
	Start  int            `json:"start"`
	End    int            `json:"end"`
	Text   string         `json:"text"`
	Title  string         `json:"title"`
	URI    string         `json:"uri"`
}

// Row is one commit, tag or other record that a typed query found, with the
// facts that an answer may use and the bytes that hold them.
type Row struct {
	Record  graph.RecordID  `json:"record"`
	Values  map[Fact]string `json:"values"`
	Quotes  []Quote         `json:"quotes"`
	Role    Role            `json:"role"`
	Ordered uint64          `json:"ordered,omitempty"` // place on the default branch
}

// Fact names a value of a row.
type Fact string

// The facts.
const (
	FactWho     Fact = "who"
	FactDate    Fact = "date"
	FactCommit  Fact = "commit"
	FactSubject Fact = "subject"
	FactPath    Fact = "path"
	FactOldPath Fact = "old_path"
	FactTag     Fact = "tag"
	FactChange  Fact = "change" // "added", "changed", "renamed", "removed"
	FactBody    Fact = "body"   // what a commit says below its subject
)

// Role says what a row is in its answer.
type Role string

// The roles.
const (
	RoleMain    Role = "main"    // what was asked for
	RoleRelease Role = "release" // the release that first holds it
	RoleRename  Role = "rename"  // how the thing came to its present name
	RoleListed  Role = "listed"  // one of several
)

// Hit is a sentence that text search found.
type Hit struct {
	Quote   Quote   `json:"quote"`
	Head    string  `json:"head"`            // title and headings above it
	Above   []Quote `json:"above,omitempty"` // the title and the heading, where the text has them
	Score   float64 `json:"score"`           // of the sentence among all
	Sure    float64 `json:"sure"`            // how likely it is that it answers the question
	Verdict Outcome `json:"verdict"`
	Bold    [2]int  `json:"bold"` // the only span of the asked kind, relative to the quote
}

// Evidence is what was found.
type Evidence struct {
	Rows      []Row       `json:"rows,omitempty"`
	Total     int         `json:"total,omitempty"` // rows there are, when not all are given
	People    int         `json:"people,omitempty"`
	Hits      []Hit       `json:"hits,omitempty"`
	Unmatched []string    `json:"unmatched,omitempty"` // words of the question that matched nothing
	Lost      bool        `json:"lost,omitempty"`      // what the place is told from may no longer be read
	Freshness []Freshness `json:"freshness"`
}

// Statement is one sentence of an answer with the bytes that hold it.
type Statement struct {
	Parts  []Said  `json:"parts"`
	Quotes []Quote `json:"quotes"`
}

// Said is a part of a statement: words of ours, or a value that the quotes must
// hold.
type Said struct {
	Text  string `json:"text"`
	Value bool   `json:"value,omitempty"`
	Bold  bool   `json:"bold,omitempty"`
	Count bool   `json:"count,omitempty"` // a number of rows, which no row holds
}

// Draft is an answer before it is verified and cited.
type Draft struct {
	Plan       Plan        `json:"plan"`
	Outcome    Outcome     `json:"outcome"`
	Lead       string      `json:"lead,omitempty"` // words of ours before the statements
	Statements []Statement `json:"statements"`
	Freshness  []Freshness `json:"freshness"`
}
