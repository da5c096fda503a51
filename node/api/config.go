package api

import (
	"context"
	"log/slog"
	"reflect"
	"time"

	"github.com/cloister-os/cloister/agents/memory"
	"github.com/cloister-os/cloister/agents/run"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/budget"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/people"
	"github.com/cloister-os/cloister/auth/policy"
	"github.com/cloister-os/cloister/auth/session"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/models/pack"
	"github.com/cloister-os/cloister/node/api/wire"
	"github.com/cloister-os/cloister/node/webcert"
	"github.com/cloister-os/cloister/store"
)

// Config is what an API needs. Sessions and Door are required; a route whose
// service is nil answers 503.
type Config struct {
	Store       store.Store
	Sessions    *session.Service
	People      *people.Service
	Door        guard.Door
	Guard       *guard.Guard // for requests that may be sent again; nil = their keys are ignored
	Policies    *policy.Policies
	Ledger      *budget.Ledger
	Records     guard.Records
	Sources     *connect.Service
	Cited       func(ctx context.Context, p auth.Principal, c CitationInput) (wire.Passage, error)
	Packs       *pack.Service
	Uploads     string // folder for files on their way; required
	Runs        *run.Engine
	Memories    *memory.Service
	Certificate *webcert.Service
	Nodes       Nodes
	Seal        Seal
	Backups     Backups
	// Finalise raises the cluster to the newest data format, behind the guard.
	Finalise func(ctx context.Context, p auth.Principal) (from, to int, err error)
	// Ask starts a run that answers a question, once for a key that is not "", as the
	// next turn of a conversation when one is named.
	Ask       func(ctx context.Context, p auth.Principal, key string, in run.ID, question string) (id, conversation run.ID, err error)
	Status    func(ctx context.Context, p auth.Principal) (wire.Status, error) // called once the guard let the caller through
	SetupDone func()                                                           // called after setup; may be nil
	Heartbeat time.Duration                                                    // of event streams; 0 = 15 s
	Logger    *slog.Logger                                                     // nil = slog.Default()
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }
