package room

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"slices"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/view"
)

type records struct{ *Rooms }

var _ ui.Records = records{}

// List implements ui.Records.
func (s records) List(ctx context.Context, p auth.Principal, q ui.RecordQuery) (ui.RecordPage, error) {
	f := audit.Filter{
		Before: q.Before, Limit: q.Limit, Actor: q.Actor, Action: auth.Action(q.Action), Kind: audit.Kind(q.Kind),
		Run: q.Run, Resource: q.Resource, Since: q.Since, Until: q.Until,
	}
	switch q.Result {
	case "allow", "deny":
		f.Decision = q.Result
	default:
		f.Status = q.Result
	}
	if q.After > 0 {
		f.From, f.Oldest = q.After+1, true
	}
	page, err := s.cfg.Records.List(ctx, p, f)
	if err != nil {
		return ui.RecordPage{}, err
	}
	if f.Oldest {
		slices.Reverse(page.Entries)
	}
	out := ui.RecordPage{Rows: make([]view.Record, 0, len(page.Entries)), Scanned: page.More && len(page.Entries) < q.Limit}
	for _, e := range page.Entries {
		out.Rows = append(out.Rows, showRecord(e))
	}
	if f.Oldest {
		out.Newer = page.More
		if len(out.Rows) > 0 {
			out.Older = out.Rows[len(out.Rows)-1].Seq
		}
		return out, nil
	}
	out.Newer = q.Before > 0 && q.Before < page.Size
	if page.More {
		out.Older = page.Next
	}
	return out, nil
}

// Get implements ui.Records.
func (s records) Get(ctx context.Context, p auth.Principal, seq uint64) (view.Record, error) {
	e, err := s.cfg.Records.Entry(ctx, p, seq)
	if err != nil {
		return view.Record{}, err
	}
	v := showRecord(e)
	proof, err := s.cfg.Records.Proof(ctx, p, seq)
	if errors.Is(err, store.ErrNotFound) {
		return v, nil // not signed yet
	}
	v.Proof, v.ProofSteps, v.ProofSize = proof.Text(), len(proof.Hashes), proof.Checkpoint.Size
	return v, err
}

// Log implements ui.Records.
func (s records) Log(ctx context.Context, p auth.Principal) (view.Log, error) {
	if err := s.cfg.Door.Decide(ctx, guard.Request{Principal: p, Action: auth.AuditRead, Resource: auth.AuditLog}); err != nil {
		return view.Log{}, err
	}
	out := view.Log{Available: true, Key: s.cfg.Records.Log.Fingerprint()}
	err := s.cfg.Store.View(ctx, store.Local, func(snap store.Snapshot) error {
		out.Size = snap.Log(audit.LogName).Size()
		return nil
	})
	if err != nil {
		return view.Log{}, err
	}
	c, err := s.cfg.Records.Log.Last(ctx)
	if err != nil {
		return view.Log{}, err
	}
	out.Signed, out.SignedAt, out.Root, out.Note = c.Size, c.Time, hex.EncodeToString(c.Root[:]), string(c.Note)
	out.Size = max(out.Size, c.Size)
	return out, nil
}

// Export implements ui.Records.
func (s records) Export(ctx context.Context, p auth.Principal, r ui.RecordRange, w io.Writer) error {
	return s.cfg.Records.Export(ctx, p, audit.Range{From: r.From, To: r.To, Since: r.Since, Until: r.Until}, w)
}

func showRecord(e audit.Entry) view.Record {
	r := e.Record
	v := view.Record{
		Seq: e.Seq, Version: uint64(e.Version), Time: e.Time, ID: r.ID, Kind: string(r.Kind), Actor: r.Actor.ID, ActorKind: string(r.Actor.Kind),
		Action: string(r.Action), Resource: r.Resource.Type + ":" + r.Resource.ID, Decision: r.Decision, Policies: r.Policies, ArgsSHA256: r.ArgsSHA256,
		Run: r.Run, UseCase: r.UseCase, Intent: r.Intent, Status: r.Status, Error: r.Error, Cost: r.CostNanoUSD, Node: r.Node,
		Detail: facts(slices.Sorted(maps.Keys(r.Detail)), r.Detail), Usage: facts(slices.Sorted(maps.Keys(r.Usage)), r.Usage), JSON: string(e.Leaf),
	}
	for o := r.Actor.OnBehalfOf; o != nil; o = o.OnBehalfOf {
		v.OnBehalfOf = o.ID
	}
	sum := sha256.Sum256(append([]byte{0}, e.Leaf...)) // RFC 6962: a leaf's hash begins with a zero byte
	v.LeafHash = hex.EncodeToString(sum[:])
	return v
}
