// Package auth holds the words that every decision about access is made of: who
// acts (Principal), what they do (Action), to what (Resource), and how a refusal
// looks (DeniedError).
//
// The rooms below it each keep one promise: session (who is this), policy (may
// they), guard (the one door to every effect), audit (what happened), budget
// (at what price), seal (keys). It may import store and nothing above auth.
package auth

import (
	"errors"
	"fmt"
)

// Kind is the kind of a principal.
type Kind string

// The kinds of principal.
const (
	User   Kind = "User"   // a person, by session
	APIKey Kind = "Key"    // a program, by API key
	Agent  Kind = "Agent"  // an agent acting for someone: OnBehalfOf is set
	System Kind = "System" // the node itself: sweeps, scheduled syncs
)

// Role is what a person is to the organisation.
type Role string

// The roles.
const (
	Administrator Role = "administrator"
	Builder       Role = "builder"
	Asker         Role = "user"
	Approver      Role = "approver"
	Auditor       Role = "auditor"
	Operator      Role = "operator"
)

// Principal is who acts. It is made by auth/session (people and keys) and by
// agents/run (agents); nothing else invents one.
type Principal struct {
	Kind       Kind
	ID         string     // opaque and stable; never a name or an address
	Name       string     // for display only; never reaches policy or the audit record in clear
	Roles      []Role     // people
	Groups     []string   // people: the groups of their directory, each as DIRECTORY/ID; never a group's name
	Scopes     []string   // keys: see Scopes
	Sources    []string   // keys: the sources it may read; empty = none
	OnBehalfOf *Principal // agents: whose rights bound theirs
	// Session names the session that a person came by, so that what they started
	// ends with it; never its token. Neither policy nor the record sees it.
	Session string
}

// The scopes of an API key. What each one lets a key do is written in the
// starter policies.
const (
	ScopeAsk    = "ask"    // ask, and read the runs it started
	ScopeSource = "source" // manage and sync the sources it was granted
	ScopeModel  = "model"  // completions, vectors, the list of models
	ScopeAudit  = "audit"  // read and export the audit log
	ScopeKey    = "key"    // create (never wider than itself), list and revoke keys
	ScopePolicy = "policy" // read and change policies
)

// Scopes lists every scope in the order people should see them.
func Scopes() []string {
	return []string{ScopeAsk, ScopeSource, ScopeModel, ScopeAudit, ScopeKey, ScopePolicy}
}

// Root is the person, key or node at the end of the chain of delegation: whose
// rights bound the act and to whom its cost is attributed.
// A chain longer than MaxDelegation is refused by policy; Root stops there.
func (p Principal) Root() Principal {
	for i := 0; p.OnBehalfOf != nil && i < MaxDelegation; i++ {
		p = *p.OnBehalfOf
	}
	return p
}

// MaxDelegation bounds how many principals may act for one another in a row.
const MaxDelegation = 3

// Action is what is done to a resource.
type Action string

// The actions. The starter policies name each of them.
const (
	Ask           Action = "ask"            // System: start a run of the answer agent
	SourceRead    Action = "source.read"    // Source: see anything that came from it
	SourceManage  Action = "source.manage"  // Source: add, remove, sync now, say who may read it
	SourceFetch   Action = "source.fetch"   // Source: the connector reaches out to the system
	AccessRead    Action = "access.read"    // System: see who may read which source, and why
	ModelInfer    Action = "model.infer"    // Model: a completion
	ModelEmbed    Action = "model.embed"    // Model: vectors
	ModelManage   Action = "model.manage"   // Model: import, remove
	ModelList     Action = "model.list"     // System
	AuditRead     Action = "audit.read"     // Log
	AuditExport   Action = "audit.export"   // Log
	KeyManage     Action = "key.manage"     // System: create, list, revoke API keys
	PolicyRead    Action = "policy.read"    // System
	PolicyManage  Action = "policy.manage"  // System
	RunRead       Action = "run.read"       // Run: its events and its result; attribute owner
	SystemStatus  Action = "system.status"  // System
	SessionManage Action = "session.manage" // System: one's own sessions
	ClusterRead   Action = "cluster.read"   // System: the nodes and their certificates
	ClusterManage Action = "cluster.manage" // System: invite, remove, move and certify nodes
	BackupManage  Action = "backup.manage"  // System: make, list, take away and restore backups
	SealManage    Action = "seal.manage"    // System: change data keys, split the root key into shares and back
	MemoryRead    Action = "memory.read"    // Memory: what a person told, to show it or to answer with it; attribute owner
	MemoryWrite   Action = "memory.write"   // Memory: keep, change, forget; attribute owner
	// DirectoryManage is to join, test and leave directories, look at their groups,
	// and say which group gives which role. Resource: System.
	DirectoryManage Action = "directory.manage"
)

// Resource is what is acted on.
type Resource struct {
	Type  string         // "System", "Source", "Model", "Log", "Run", "Memory"
	ID    string         // "cloister" for System
	Attrs map[string]any // string, int64, bool or []string
}

// TheSystem is the resource of actions that concern the installation as a whole.
var TheSystem = Resource{Type: "System", ID: "cloister"}

// Source is the resource of a source by name.
func Source(name string) Resource { return Resource{Type: "Source", ID: name} }

// Model is the resource of a model by name.
func Model(name string) Resource { return Resource{Type: "Model", ID: name} }

// AuditLog is the resource of the audit log.
var AuditLog = Resource{Type: "Log", ID: "audit"}

// Run is the resource of a run and the principal that started it.
func Run(id, owner string) Resource {
	return Resource{Type: "Run", ID: id, Attrs: map[string]any{"owner": owner}}
}

// Memory is the resource of a memory, or of all of them ("own"), and the person
// whose it is.
func Memory(id, owner string) Resource {
	return Resource{Type: "Memory", ID: id, Attrs: map[string]any{"owner": owner}}
}

// Actions lists every action, so that a policy can be checked for unknown ones.
func Actions() []Action {
	return []Action{
		Ask, SourceRead, SourceManage, SourceFetch, AccessRead, ModelInfer, ModelEmbed, ModelManage, ModelList,
		AuditRead, AuditExport, KeyManage, PolicyRead, PolicyManage, RunRead, SystemStatus, SessionManage,
		ClusterRead, ClusterManage, BackupManage, SealManage, MemoryRead, MemoryWrite, DirectoryManage,
	}
}

// ErrDenied and ErrUnauthenticated are the two refusals: "not you" and "who are
// you". ErrThrottled is a refusal that time heals.
var (
	ErrDenied          = errors.New("not permitted")
	ErrUnauthenticated = errors.New("not signed in")
	ErrThrottled       = errors.New("too many attempts")
)

// DeniedError is a refusal by policy. It matches ErrDenied. Its text is safe to
// show: it names the policy, never the resource's content.
type DeniedError struct {
	Action   Action
	Policies []string // the ids that decided; "default-deny" when no permit matched
	Record   uint64   // sequence of the refusal in the audit log
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("%s is not permitted (policy %s)", e.Action, firstOr(e.Policies, "default-deny"))
}

// Is makes errors.Is(err, ErrDenied) true.
func (e *DeniedError) Is(target error) bool { return target == ErrDenied }

func firstOr(list []string, other string) string {
	if len(list) == 0 {
		return other
	}
	return list[0]
}
