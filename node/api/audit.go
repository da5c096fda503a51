package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/node/api/wire"
	"github.com/cloister-os/cloister/store"
)

type recordsInput struct {
	From     uint64    `query:"from" doc:"Only records with at least this sequence"`
	After    int64     `query:"after" default:"-1" minimum:"-1" doc:"Only records with a greater sequence, oldest first"`
	Before   uint64    `query:"before" doc:"Only records with a smaller sequence"`
	Oldest   bool      `query:"oldest" doc:"Oldest first; otherwise newest first"`
	Limit    int       `query:"limit" minimum:"1" maximum:"1000" default:"50"`
	Actor    string    `query:"actor" maxLength:"200" doc:"The actor's id, or of whom it acts for"`
	Action   string    `query:"action" maxLength:"100"`
	Kind     string    `query:"kind" enum:"intent,outcome,refusal,event"`
	Run      string    `query:"run" maxLength:"100"`
	Resource string    `query:"resource" maxLength:"300" doc:"type:id, or type"`
	Decision string    `query:"decision" enum:"allow,deny"`
	Status   string    `query:"status" enum:"ok,failed,in-doubt" doc:"Of an outcome"`
	Since    time.Time `query:"since"`
	Until    time.Time `query:"until"`
}

func (in *recordsInput) filter() audit.Filter {
	f := audit.Filter{
		From: in.From, Before: in.Before, Oldest: in.Oldest, Limit: in.Limit, Actor: in.Actor, Action: auth.Action(in.Action),
		Kind: audit.Kind(in.Kind), Run: in.Run, Resource: in.Resource, Decision: in.Decision, Status: in.Status,
		Since: in.Since, Until: in.Until,
	}
	if in.After >= 0 {
		f.From, f.Oldest = max(f.From, uint64(in.After)+1), true
	}
	return f
}

type exportInput struct {
	Body wire.Export
}

func (a *API) auditRoutes() {
	list := operation(http.MethodGet, "/api/v1/audit/records", "list-records", "A page of the audit log")
	handle(a, list, func(ctx context.Context, p auth.Principal, in *recordsInput) (*body[wire.Records], error) {
		page, err := a.cfg.Records.List(ctx, p, in.filter())
		if err != nil {
			return nil, err
		}
		out := wire.Records{Size: page.Size, More: page.More, Next: page.Next, Records: make([]wire.Record, 0, len(page.Entries))}
		for _, e := range page.Entries {
			out.Records = append(out.Records, wire.Record{Seq: e.Seq, Version: uint64(e.Version), Time: e.Time, Record: json.RawMessage(e.Leaf)})
		}
		return &body[wire.Records]{out}, nil
	})
	one := operation(http.MethodGet, "/api/v1/audit/records/{seq}", "get-record", "One record, and the proof that the newest signed checkpoint holds it")
	handle(a, one, func(ctx context.Context, p auth.Principal, in *struct {
		Seq uint64 `path:"seq" maximum:"9223372036854775807"`
	}) (*body[wire.Record], error) {
		e, err := a.cfg.Records.Entry(ctx, p, in.Seq)
		if err != nil {
			return nil, err
		}
		out := wire.Record{Seq: e.Seq, Version: uint64(e.Version), Time: e.Time, Record: json.RawMessage(e.Leaf)}
		proof, err := a.cfg.Records.Proof(ctx, p, in.Seq)
		if errors.Is(err, store.ErrNotFound) {
			return &body[wire.Record]{out}, nil // not signed yet
		}
		out.Proof = proof.Text()
		return &body[wire.Record]{out}, err
	})
	checkpoint := operation(http.MethodGet, "/api/v1/audit/checkpoint", "checkpoint", "Sign the audit log as it stands and return the checkpoint; keep it for cloister-verify --after")
	handle(a, checkpoint, func(ctx context.Context, p auth.Principal, _ *none) (*body[wire.Checkpoint], error) {
		c, err := a.cfg.Records.Checkpoint(ctx, p)
		if err != nil {
			return nil, err
		}
		return &body[wire.Checkpoint]{wire.Checkpoint{
			Origin: c.Origin, Size: c.Size, Root: hex.EncodeToString(c.Root[:]), Epoch: c.Epoch, Time: c.Time, Note: string(c.Note), LogKey: a.cfg.Records.Log.Fingerprint(),
		}}, nil
	})
	export := operation(http.MethodPost, "/api/v1/audit/export", "export-records", "A bundle of the audit log that cloister-verify checks")
	export.Responses = map[string]*huma.Response{"200": {Description: "The bundle", Content: map[string]*huma.MediaType{
		"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}},
	}}}
	handle(a, export, func(ctx context.Context, p auth.Principal, in *exportInput) (*huma.StreamResponse, error) {
		if b := in.Body; b.To > 0 && b.From >= b.To || !b.Until.IsZero() && !b.Since.Before(b.Until) {
			return nil, problem(http.StatusUnprocessableEntity, "There is nothing in that range.", "It ends before it begins: name a later end, or none for all that is there.")
		}
		which := audit.Range{From: in.Body.From, To: in.Body.To, Since: in.Body.Since, Until: in.Body.Until, Held: in.Body.Held, Openings: in.Body.Openings}
		return a.download("audit.bundle", func(w io.Writer) error { return a.cfg.Records.Export(ctx, p, which, w) }), nil
	})
}

// download answers with what write writes. An error before the first byte is a
// plain problem; after it the connection is cut, so that nobody takes a part
// for the whole.
func (a *API) download(name string, write func(io.Writer) error) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		r, w := humago.Unwrap(hc)
		out := &lateWriter{w: w, name: name}
		err := write(out)
		if err == nil {
			return
		}
		if !out.begun {
			writeProblem(w, r, a.problem(r.Context(), err))
			return
		}
		if !errors.Is(err, context.Canceled) {
			a.cfg.Logger.Error("a download was cut", "request", requestID(r.Context()), "name", name, "err", err)
		}
		panic(http.ErrAbortHandler)
	}}
}

// lateWriter sends its headers with the first byte.
type lateWriter struct {
	w     http.ResponseWriter
	name  string
	begun bool
}

// Write implements io.Writer.
func (l *lateWriter) Write(b []byte) (int, error) {
	if !l.begun {
		l.begun = true
		l.w.Header().Set("Content-Type", "application/octet-stream")
		l.w.Header().Set("Content-Disposition", `attachment; filename="`+l.name+`"`)
		l.w.WriteHeader(http.StatusOK)
	}
	_ = http.NewResponseController(l.w).SetWriteDeadline(time.Now().Add(eventWait)) // not every writer can
	return l.w.Write(b)
}
