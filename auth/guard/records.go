package guard

import (
	"context"
	"io"
	"math"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
)

// Records is the audit log behind the door: whoever looks at the record is on it.
type Records struct {
	Guard *Guard
	Log   *audit.Log
}

// List returns a page of the log.
func (r Records) List(ctx context.Context, p auth.Principal, f audit.Filter) (audit.Page, error) {
	var page audit.Page
	req := Request{Principal: p, Action: auth.AuditRead, Resource: auth.AuditLog, Args: f, Detail: sought(f)}
	err := r.Guard.Read(ctx, req, func(ctx context.Context, permit *Permit) (Outcome, error) {
		if err := permit.Covers(auth.AuditRead, auth.AuditLog); err != nil {
			return Outcome{}, err
		}
		var err error
		page, err = r.Log.List(ctx, f)
		usage := map[string]int64{"rows": int64(len(page.Entries))}
		if n := len(page.Entries); n > 0 {
			a, b := page.Entries[0].Seq, page.Entries[n-1].Seq
			usage["first"], usage["last"] = int64(min(a, b)), int64(max(a, b))
		}
		return Outcome{Usage: usage}, err
	})
	if err != nil {
		return audit.Page{}, err
	}
	return page, nil
}

// sought is the range and the filter of a look at the log, for the record of it.
func sought(f audit.Filter) map[string]any {
	out := span(f.From, f.Before, f.Since, f.Until)
	for name, v := range map[string]string{
		"actor": f.Actor, "action": string(f.Action), "kind": string(f.Kind), "run": f.Run, "resource": f.Resource, "decision": f.Decision, "status": f.Status,
	} {
		if v != "" && !auth.HoldsSecret(v) {
			out[name] = v
		}
	}
	return out
}

// span is a range of the log: sequences and times, those that are given.
func span(from, to uint64, since, until time.Time) map[string]any {
	out := map[string]any{}
	for name, n := range map[string]uint64{"from": from, "to": to} {
		if n > 0 {
			out[name] = int64(min(n, math.MaxInt64))
		}
	}
	for name, t := range map[string]time.Time{"since": since, "until": until} {
		if !t.IsZero() {
			out[name] = t.UTC().Format(time.RFC3339)
		}
	}
	return out
}

// Entry returns one record of the log.
func (r Records) Entry(ctx context.Context, p auth.Principal, seq uint64) (audit.Entry, error) {
	var entry audit.Entry
	req := Request{Principal: p, Action: auth.AuditRead, Resource: auth.AuditLog, Args: seq, Detail: span(seq, seq+1, time.Time{}, time.Time{})}
	err := r.Guard.Read(ctx, req, func(ctx context.Context, _ *Permit) (Outcome, error) {
		var err error
		entry, err = r.Log.Entry(ctx, seq)
		return Outcome{}, err
	})
	if err != nil {
		return audit.Entry{}, err
	}
	return entry, nil
}

// Proof proves that the newest signed checkpoint holds a record. It tells nothing
// that the record and the checkpoint do not, so it needs audit.read and leaves no
// record of its own.
func (r Records) Proof(ctx context.Context, p auth.Principal, seq uint64) (audit.Inclusion, error) {
	if err := r.Guard.Decide(ctx, Request{Principal: p, Action: auth.AuditRead, Resource: auth.AuditLog}); err != nil {
		return audit.Inclusion{}, err
	}
	return r.Log.Proof(ctx, seq)
}

// Checkpoint signs the log as it stands and returns the checkpoint.
func (r Records) Checkpoint(ctx context.Context, p auth.Principal) (audit.Checkpoint, error) {
	var c audit.Checkpoint
	req := Request{Principal: p, Action: auth.AuditRead, Resource: auth.AuditLog, Detail: map[string]any{"what": "checkpoint"}}
	err := r.Guard.Read(ctx, req, func(ctx context.Context, _ *Permit) (Outcome, error) {
		var err error
		c, err = r.Log.Checkpoint(ctx)
		return Outcome{}, err
	})
	if err != nil {
		return audit.Checkpoint{}, err
	}
	return c, nil
}

// Export writes a bundle that cloister-verify checks, with the texts of the
// policies that stand now. The bundle leaves the cluster: not a byte is written
// before the intent is durable.
func (r Records) Export(ctx context.Context, p auth.Principal, which audit.Range, w io.Writer) error {
	req := Request{Principal: p, Action: auth.AuditExport, Resource: auth.AuditLog, Args: which, Detail: span(which.From, which.To, which.Since, which.Until)}
	return r.Guard.Do(ctx, req, func(ctx context.Context, permit *Permit) (Outcome, error) {
		if err := permit.Admit(ctx, auth.AuditExport, auth.AuditLog); err != nil {
			return Outcome{}, err
		}
		texts := map[string]string{}
		for _, policy := range r.Guard.Policies().List() {
			texts[policy.ID] = policy.Text
		}
		counted := &counter{w: w}
		err := r.Log.Export(ctx, which, counted, texts)
		return Outcome{Usage: map[string]int64{"bytes": counted.n}}, err
	})
}

// counter counts what is written through it.
type counter struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
