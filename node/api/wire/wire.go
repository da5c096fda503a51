// Package wire holds the shapes that /api/v1 and its clients exchange. It is
// what both sides agree on, and nothing else: no behaviour, and no import of
// Cloister.
package wire

import (
	"encoding/json"
	"time"
)

// Setup completes the first start.
type Setup struct {
	Code     string `json:"code" minLength:"1" maxLength:"200" doc:"The one-time setup code that the node printed"`
	User     string `json:"user" minLength:"1" maxLength:"200" doc:"The first administrator's name"`
	Password string `json:"password" minLength:"1" maxLength:"1000"`
}

// Login names somebody.
type Login struct {
	User     string `json:"user" minLength:"1" maxLength:"200"`
	Password string `json:"password" minLength:"1" maxLength:"1000"`
}

// Session is a sign-in. The token goes after "Authorization: Bearer".
type Session struct {
	Token   string    `json:"token"`
	User    string    `json:"user"`
	Expires time.Time `json:"expires"`
}

// Status says how the node is.
type Status struct {
	Node        string           `json:"node"`
	Version     string           `json:"version" doc:"The program's version"`
	Started     time.Time        `json:"started"`
	User        string           `json:"user" doc:"Who asks, as the node sees it"`
	Store       StoreStatus      `json:"store"`
	Engine      EngineStatus     `json:"engine"`
	Models      []string         `json:"models" doc:"The models it holds; empty for whoever may not list them"`
	Sources     []SourceShort    `json:"sources" doc:"The sources that the caller may read"`
	Directories []DirectoryShort `json:"directories,omitempty"`
	LogKey      string           `json:"log_key" doc:"Fingerprint of the audit log's key"`
	Blobs       BlobStatus       `json:"blobs" doc:"How this node stands with the documents that all nodes hold"`
	// Warnings say what will not be well if nobody acts.
	Warnings []string `json:"warnings,omitempty" doc:"What an operator should see to, a sentence each"`
}

// BlobStatus says which documents a node has yet to get from the others.
type BlobStatus struct {
	Missing      int   `json:"missing" doc:"That this node should hold and has not got yet"`
	MissingBytes int64 `json:"missing_bytes"`
	Damaged      int64 `json:"damaged" doc:"Found damaged on this node's disk since its start"`
	Repaired     int64 `json:"repaired" doc:"Of them, replaced from another node"`
}

// StoreStatus says how the store is.
type StoreStatus struct {
	Applied  uint64 `json:"applied" doc:"The newest version"`
	ReadOnly string `json:"read_only,omitempty" doc:"Why nothing can be written now"`
}

// EngineStatus says how local inference is.
type EngineStatus struct {
	State  string `json:"state" enum:"ready,starting,unavailable"`
	Reason string `json:"reason,omitempty"`
}

// SourceShort is a source in a status.
type SourceShort struct {
	Name    string    `json:"name"`
	Stage   string    `json:"stage"`
	Running bool      `json:"running"`
	Error   string    `json:"error,omitempty"`
	AsOf    time.Time `json:"as_of"`
}

// NewSource connects a source.
type NewSource struct {
	Name     string   `json:"name" minLength:"1" maxLength:"64"`
	Kind     string   `json:"kind" enum:"git,files"`
	Path     string   `json:"path" minLength:"1" maxLength:"4096" doc:"Folder on the node"`
	Audience []string `json:"audience,omitempty" maxItems:"64" doc:"Who may read it: roles, groups as DIRECTORY/ID, people by id; empty: the role user, which is everyone who may ask"`
	Node     string   `json:"node,omitempty" maxLength:"64" doc:"The node whose machine has the folder; empty: the one that is asked"`
}

// Source is a connected source.
type Source struct {
	Name     string    `json:"name"`
	Kind     string    `json:"kind"`
	Path     string    `json:"path"`
	Audience []string  `json:"audience,omitempty" doc:"Who may read it; absent on a source of before, which whoever the policies let reads"`
	Added    time.Time `json:"added"`
	Removing bool      `json:"removing,omitempty"`
	AsOf     time.Time `json:"as_of" doc:"How fresh is what can be read: when the newest completed scan began"`
	Node     string    `json:"node,omitempty" doc:"The node whose machine has it; empty: every node reaches it"`
	Away     time.Time `json:"away,omitzero" doc:"Since when that node has not been heard of; absent while it is there"`
	Progress Progress  `json:"progress"`
}

// Audience is who may read a source.
type Audience struct {
	Audience []string `json:"audience" minItems:"1" maxItems:"64" doc:"Roles, groups as DIRECTORY/ID, people by id"`
}

// Access is who may read what, and what nobody may.
type Access struct {
	Sources []SourceAccess `json:"sources"`
	Orphans []Hidden       `json:"orphans" doc:"Records whose source is not there any more, so that nobody sees them"`
	Keys    bool           `json:"keys" doc:"API keys are among the readers; false for whoever may not list keys"`
}

// SourceAccess is who may read one source. It tells nothing of what is in it.
type SourceAccess struct {
	Source   string   `json:"source"`
	Kind     string   `json:"kind"`
	Audience []string `json:"audience" doc:"Empty: whoever the policies let"`
	Readers  []Reader `json:"readers"`
	Nobody   bool     `json:"nobody" doc:"Nobody reads it"`
	Records  int64    `json:"records,omitempty" doc:"How many records nobody sees because of that; at most 10000 are counted"`
}

// Reader is somebody whom an audience names, or a key that was granted a source.
type Reader struct {
	Kind     string   `json:"kind" enum:"role,group,person,key"`
	ID       string   `json:"id"`
	Name     string   `json:"name,omitempty"`
	Reads    bool     `json:"reads" doc:"A policy lets them"`
	Roles    []string `json:"roles,omitempty" doc:"One of which they need for that"`
	Policies []string `json:"policies" doc:"That decided"`
}

// Hidden is records that nobody sees.
type Hidden struct {
	Source  string `json:"source"`
	Records int64  `json:"records" doc:"At most 10000 are counted"`
}

// Progress says how a sync stands, or how the last one ended.
type Progress struct {
	Job      string    `json:"job" doc:"Empty: there was none yet"`
	Running  bool      `json:"running"`
	Stage    string    `json:"stage"`
	Done     int64     `json:"done" doc:"Of the stage"`
	Total    int64     `json:"total" doc:"Of the stage; 0 = not known"`
	Records  int64     `json:"records" doc:"Written or removed"`
	Claims   int64     `json:"claims" doc:"Written"`
	Bodies   int64     `json:"bodies" doc:"Files or objects whose bytes were read"`
	Skipped  int64     `json:"skipped" doc:"How many things were left out"`
	Skips    []Skip    `json:"skips,omitempty" doc:"The first of them, and why"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	Error    string    `json:"error,omitempty" doc:"Why the last sync failed"`
}

// Skip is something that was left out of a sync.
type Skip struct {
	What   string `json:"what"`
	Reason string `json:"reason"`
}

// Job names a sync.
type Job struct {
	Job string `json:"job"`
}

// Question is what somebody asks.
type Question struct {
	Question     string `json:"question" minLength:"1" maxLength:"4000"`
	Conversation string `json:"conversation,omitempty" maxLength:"64" doc:"The conversation it goes on with; none begins another"`
}

// Answer is what cloister ask --json prints.
type Answer struct {
	Outcome    string         `json:"outcome" enum:"answer,closest,unknown,memory,kept" doc:"memory: the caller told it, and no source states it; kept: it was a statement, and is remembered"`
	Understood string         `json:"understood"`
	Answer     string         `json:"answer"`
	Citations  []Citation     `json:"citations"`
	Freshness  []Freshness    `json:"freshness"`
	Memories   []AnswerMemory `json:"memories,omitempty" doc:"What the caller told and the answer shows: never a source"`
	// Of a question that leans on earlier ones.
	Resolved     []Resolved `json:"resolved,omitempty" doc:"What words of the question were taken to stand for"`
	Unclear      string     `json:"unclear,omitempty" doc:"What is missing, when that could not be told"`
	Run          string     `json:"run"`
	Conversation string     `json:"conversation" doc:"What it is a turn of: name it in the next question to go on"`
	CostNanoUSD  int64      `json:"cost_nano_usd"`
}

// Resolved is what words of a question were taken to stand for.
type Resolved struct {
	Words string `json:"words"`
	Means string `json:"means"`
}

// Conversation is questions in a row, of which each can lean on those before.
type Conversation struct {
	ID      string    `json:"id" doc:"That of its first run"`
	Title   string    `json:"title"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated" doc:"Its newest question was asked"`
	Turns   int       `json:"turns"`
	State   string    `json:"state" enum:"running,done,failed,cancelled,forgotten" doc:"Of the newest turn"`
}

// Conversations is a page of them.
type Conversations struct {
	Conversations []Conversation `json:"conversations"`
	Next          string         `json:"next,omitempty" doc:"before of the next page; none when this is the last"`
}

// Talk is a conversation with its turns.
type Talk struct {
	Conversation
	Runs []Run `json:"runs" doc:"Its turns, oldest first; those that were forgotten are left out"`
}

// Title is a conversation's new title.
type Title struct {
	Title string `json:"title" minLength:"1" maxLength:"200"`
}

// Forgotten is what was deleted, and what remains of it.
type Forgotten struct {
	Turns   int    `json:"turns"`
	Remains string `json:"remains"`
}

// Citation is a range of bytes of one version of a record.
type Citation struct {
	Source  string `json:"source"`
	Record  string `json:"record"`
	Version uint64 `json:"version"`
	Title   string `json:"title"`
	URI     string `json:"uri"`
	Start   int64  `json:"start"`
	End     int64  `json:"end"`
	Text    string `json:"text"`
	SHA256  string `json:"sha256"`
}

// Freshness says how fresh what is read of a source is.
type Freshness struct {
	Source string    `json:"source"`
	AsOf   time.Time `json:"as_of"`
}

// Run is what is known of a run.
type Run struct {
	ID           string          `json:"id"`
	Conversation string          `json:"conversation"`
	Question     string          `json:"question,omitempty"`
	Agent        string          `json:"agent"`
	Version      string          `json:"version"`
	State        string          `json:"state" enum:"running,done,failed,cancelled"`
	Step         string          `json:"step,omitempty"`
	Started      time.Time       `json:"started"`
	Ended        *time.Time      `json:"ended,omitempty"`
	Error        string          `json:"error,omitempty"`
	CostNanoUSD  int64           `json:"cost_nano_usd"`
	Result       json.RawMessage `json:"result,omitempty"`
}

// Event is one of a run's events.
type Event struct {
	N    uint64          `json:"n"`
	Kind string          `json:"kind"`
	Step string          `json:"step,omitempty"`
	Time time.Time       `json:"time"`
	Data json.RawMessage `json:"data"`
}

// NewKey asks for an API key.
type NewKey struct {
	Name    string   `json:"name" minLength:"1" maxLength:"64"`
	Scopes  []string `json:"scopes" minItems:"1" maxItems:"20"`
	Sources []string `json:"sources,omitempty" maxItems:"1000" doc:"The sources it may reach; empty = none"`
	Hours   int      `json:"hours,omitempty" minimum:"0" maximum:"8784" doc:"How long it is valid; 0 = 90 days"`
}

// Key is an API key. The secret is there only in the answer that makes it.
type Key struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Scopes  []string  `json:"scopes"`
	Sources []string  `json:"sources"`
	Owner   string    `json:"owner"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Secret  string    `json:"secret,omitempty"`
}

// Policy is a Cedar policy.
type Policy struct {
	ID      string `json:"id"`
	Effect  string `json:"effect,omitempty"`
	Comment string `json:"comment,omitempty"`
	Text    string `json:"text"`
	Version uint64 `json:"version,omitempty"`
}

// NewPolicy is a policy's text.
type NewPolicy struct {
	Text string `json:"text" minLength:"1" maxLength:"32768"`
}

// Model is a model of the house.
type Model struct {
	Name    string   `json:"name"`
	Kind    string   `json:"kind" enum:"completion,embedding"`
	About   string   `json:"about,omitempty"`
	Pack    string   `json:"pack,omitempty" doc:"Name and version of the pack it came in"`
	Trust   string   `json:"trust,omitempty" doc:"How the pack was vouched for"`
	Digest  string   `json:"digest"`
	Bytes   int64    `json:"bytes"`
	Licence string   `json:"licence,omitempty"`
	Terms   bool     `json:"terms,omitempty" doc:"The licence binds whoever uses the model"`
	Usable  bool     `json:"usable" doc:"Its terms, if it has any, have been accepted"`
	Base    bool     `json:"base,omitempty" doc:"It continues text and follows no instructions"`
	Routes  []string `json:"routes,omitempty"`

	Nodes []ModelNode `json:"nodes,omitempty" doc:"How each node stands with it, where there are several"`
}

// ModelNode is how a node stands with a model.
type ModelNode struct {
	Node  string `json:"node"`
	Stage string `json:"stage" enum:"ready,pulling,failed"`
	Done  int64  `json:"done,omitempty" doc:"Bytes that have come, while pulling"`
	Total int64  `json:"total,omitempty"`
	Why   string `json:"why,omitempty" doc:"Why it failed"`
}

// Licence is a model's licence.
type Licence struct {
	Model    string `json:"model"`
	Licence  string `json:"licence"`
	Terms    bool   `json:"terms"`
	Accepted string `json:"accepted,omitempty" doc:"Who accepted the terms"`
	Text     string `json:"text"`
}

// Upload is a file on its way to the node. It is named by its hash, so that
// what was interrupted goes on where it stopped.
type Upload struct {
	SHA256 string `json:"sha256"`
	Offset int64  `json:"offset" doc:"Bytes that the node has"`
}

// ImportModel imports a pack or a weights file.
type ImportModel struct {
	Path          string `json:"path,omitempty" maxLength:"4096" doc:"A file on the node"`
	Upload        string `json:"upload,omitempty" maxLength:"64" doc:"The SHA-256 of a complete upload"`
	AcceptLicence bool   `json:"accept_licence,omitempty"`
}

// ImportProgress says how an import stands.
type ImportProgress struct {
	Stage  string  `json:"stage" enum:"import,done"`
	Done   int64   `json:"done"`
	Total  int64   `json:"total"`
	Pack   string  `json:"pack,omitempty"`
	Trust  string  `json:"trust,omitempty"`
	Models []Model `json:"models,omitempty" doc:"When it is done: what came in"`
}

// Cost is what was spent.
type Cost struct {
	Lines []CostLine `json:"lines"`
}

// CostLine is what one agent, use case, person or model has spent.
type CostLine struct {
	By        string `json:"by" enum:"everything,agent,use_case,person,model"`
	ID        string `json:"id"`
	NanoUSD   int64  `json:"nano_usd"`
	Calls     int64  `json:"calls"`
	TokensIn  int64  `json:"tokens_in"`
	TokensOut int64  `json:"tokens_out"`
}

// Records is a page of the audit log.
type Records struct {
	Records []Record `json:"records"`
	Size    uint64   `json:"size" doc:"Records in the whole log"`
	More    bool     `json:"more" doc:"There may be more: ask again with before (newest first) or from (oldest first) = next"`
	Next    uint64   `json:"next"`
}

// Record is one record of the audit log with what the store assigned to it.
type Record struct {
	Seq     uint64          `json:"seq"`
	Version uint64          `json:"version"`
	Time    time.Time       `json:"time"`
	Record  json.RawMessage `json:"record" doc:"The canonical JSON that was logged"`
	Proof   string          `json:"proof,omitempty" doc:"C2SP tlog-proof with the newest signed checkpoint; only where one record is asked for"`
}

// Checkpoint is the signed state of the audit log.
type Checkpoint struct {
	Origin string    `json:"origin"`
	Size   uint64    `json:"size"`
	Root   string    `json:"root"`
	Epoch  uint64    `json:"epoch"`
	Time   time.Time `json:"time"`
	Note   string    `json:"note" doc:"The signed note (C2SP)"`
	LogKey string    `json:"log_key" doc:"Fingerprint of the key that signed it"`
}

// Export chooses what a bundle holds; all zero is the whole log.
type Export struct {
	From     uint64    `json:"from,omitempty"`
	To       uint64    `json:"to,omitempty" doc:"The first sequence that is not exported; 0 = up to the newest"`
	Since    time.Time `json:"since,omitzero"`
	Until    time.Time `json:"until,omitzero"`
	Held     []uint64  `json:"held,omitempty" maxItems:"100" doc:"Sizes of checkpoints that the auditor holds"`
	Openings bool      `json:"openings,omitempty" doc:"Include the openings of personal fields"`
}

// Passage is a citation read again.
type Passage struct {
	Source  string `json:"source"`
	Record  string `json:"record"`
	Version uint64 `json:"version"`
	Title   string `json:"title"`
	URI     string `json:"uri"`
	Start   int64  `json:"start"`
	End     int64  `json:"end"`
	Text    string `json:"text"`
	SHA256  string `json:"sha256"`
}

// Problem is an error as RFC 9457 has it.
type Problem struct {
	Type     string         `json:"type"`
	Title    string         `json:"title"`
	Status   int            `json:"status"`
	Detail   string         `json:"detail,omitempty"`
	Instance string         `json:"instance,omitempty" doc:"The request's id, as in the node's log"`
	Policy   string         `json:"policy,omitempty" doc:"The policy that refused"`
	Record   *uint64        `json:"record,omitempty" doc:"The refusal's sequence in the audit log"`
	Errors   []ProblemField `json:"errors,omitempty" doc:"What is wrong with the request"`
}

// ProblemField is one thing that is wrong with a request.
type ProblemField struct {
	Message  string `json:"message"`
	Location string `json:"location,omitempty"`
}

// Error is the problem as one line.
func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return p.Title
}

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is that of RFC 9457.
func (p *Problem) ContentType(string) string { return "application/problem+json" }
