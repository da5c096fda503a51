package guard

import (
	"context"
	"io"

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
	req := Request{Principal: p, Action: auth.AuditRead, Resource: auth.AuditLog, Args: f}
	err := r.Guard.Read(ctx, req, func(ctx context.Context, permit *Permit) (Outcome, error) {
		if err := permit.Covers(auth.AuditRead, auth.AuditLog); err != nil {
			return Outcome{}, err
		}
		var err error
		page, err = r.Log.List(ctx, f)
		return Outcome{Usage: map[string]int64{"rows": int64(len(page.Entries))}}, err
	})
	if err != nil {
		return audit.Page{}, err
	}
	return page, nil
}

// Entry returns one record of the log.
func (r Records) Entry(ctx context.Context, p auth.Principal, seq uint64) (audit.Entry, error) {
	var entry audit.Entry
	req := Request{Principal: p, Action: auth.AuditRead, Resource: auth.AuditLog, Args: seq}
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
	req := Request{Principal: p, Action: auth.AuditExport, Resource: auth.AuditLog, Args: which}
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
