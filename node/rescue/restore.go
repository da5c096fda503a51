package rescue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/audit/proof"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/backup"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/machine"
)

// Restore brings the running cluster back to a backup of this node's folder, and
// returns once that is under way. Everything since the backup is lost, so whoever
// asks repeats the backup's name. The nodes start again on the restored data.
func (s *Service) Restore(ctx context.Context, p auth.Principal, name, confirm, reason string) error {
	begun := make(chan error, 2)
	s.tasks.Go(func() { begun <- s.restore(s.life, p, name, confirm, reason, func() { begun <- nil }) })
	select {
	case err := <-begun:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// restore is audited by its intent, which stands in the log that is replaced, and
// by the event that opens the epoch, which stands in the one that comes.
func (s *Service) restore(ctx context.Context, p auth.Principal, name, confirm, reason string, begun func()) (err error) {
	tx := store.NewTx()
	permit, err := s.cfg.Door.Begin(ctx, tx, s.request(p, "restore", name))
	if err != nil {
		return err
	}
	if _, err := s.cfg.Store.Apply(ctx, tx); err != nil {
		return err
	}
	if err = s.begin("restore"); err == nil {
		var o *backup.Opened
		if o, err = s.prepare(ctx, name, confirm, begun); err == nil {
			err = s.replace(ctx, o, audit.EpochCause{How: proof.HowRestored, From: name, By: audit.ActorOf(p), Reason: reason})
		}
		s.ended(name, err)
	}
	if err == nil {
		return nil
	}
	tx = store.NewTx()
	if failed := s.cfg.Door.Finish(tx, permit, guard.Outcome{Status: "failed", Error: "the restore failed"}); failed == nil {
		_, failed = s.cfg.Store.Apply(ctx, tx)
		err = errors.Join(err, failed)
	}
	return err
}

// prepare checks everything that can be wrong with a backup before anything is
// replaced by it.
func (s *Service) prepare(ctx context.Context, name, confirm string, begun func()) (*backup.Opened, error) {
	if confirm != name {
		return nil, fmt.Errorf("%w: everything since the backup will be lost: to confirm, repeat its name, %s", store.ErrInvalid, name)
	}
	if !s.cfg.Store.Leads() {
		return nil, fmt.Errorf("%w: a cluster is restored from the node that leads: run this against that one, with the backup in its folder, or hand it the lead with: cloister node transfer %s", store.ErrInvalid, s.cfg.Node)
	}
	c, err := s.maker.Folder().Chain(name)
	if err != nil {
		return nil, err
	}
	if err := s.sameKey(ctx, c.Last()); err != nil {
		return nil, err
	}
	begun()
	if err := c.Check(ctx, s.progress); err != nil {
		return nil, err
	}
	o, err := c.Open(s.cfg.Keys)
	if err != nil {
		return nil, err
	}
	if err := o.Room(s.cfg.Data, backup.FreeBytes, s.cfg.Reserve); err != nil {
		return nil, err
	}
	return o, o.CheckInside(ctx, s.progress)
}

// sameKey refuses a backup of another cluster, or from before the log key was
// changed: the restored log would name a key that nobody here signs with.
func (s *Service) sameKey(ctx context.Context, m *backup.Manifest) error {
	if m.Cluster != s.cfg.Keys.LogSigner().Name() {
		return fmt.Errorf("%w: it is of %s, this is %s", backup.ErrForeign, m.Cluster, s.cfg.Keys.LogSigner().Name())
	}
	var theirs []proof.Key
	if err := json.Unmarshal(m.Keys, &theirs); err != nil || len(theirs) == 0 {
		return fmt.Errorf("%w: it holds no key history", backup.ErrDamaged)
	}
	if last := theirs[len(theirs)-1]; last.VerifierKey != s.cfg.Keys.LogVerifierKey() {
		return fmt.Errorf("%w: the log key was changed since this backup: restore it onto bare machines instead", backup.ErrForeign)
	}
	return nil
}

func (s *Service) progress(p backup.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = p
}

// replace is the restore itself: the blobs first, since nothing is lost by having
// them, then both databases together with the cause of the epoch.
func (s *Service) replace(ctx context.Context, o *backup.Opened, cause audit.EpochCause) error {
	if err := PutBlobs(ctx, o, s.cfg.Blobs, s.progress); err != nil {
		return err
	}
	before, err := s.cfg.Audit.Checkpoint(ctx)
	if err != nil {
		return err
	}
	cause.Before = before.Note
	if err := Replace(ctx, o, s.cfg.Store, cause, s.progress); err != nil {
		return err
	}
	_, err = s.cfg.Audit.Checkpoint(ctx)
	return err
}

// PutBlobs brings the blobs of a backup into a store that lacks them.
func PutBlobs(ctx context.Context, o *backup.Opened, into *blob.Store, progress func(backup.Progress)) error {
	return o.EachBlob(ctx, progress, func(info blob.Info, r io.Reader) error {
		if into.Has(info.Hash) {
			_, err := io.Copy(io.Discard, r)
			return err
		}
		_, err := into.PutHash(ctx, info.Hash, r)
		return err
	})
}

// Restorer takes over a staged snapshot. *consensus.Node is one.
type Restorer interface {
	Restore(ctx context.Context, r io.Reader, size int64) error
}

// Replace replaces both databases by a backup's, at an index above any that was
// used, with the cause of the epoch among what is restored.
func Replace(ctx context.Context, o *backup.Opened, into Restorer, cause audit.EpochCause, progress func(backup.Progress)) error {
	key, value, err := audit.PendingEpoch(cause)
	if err != nil {
		return err
	}
	extra := []machine.Extra{{Key: key, Value: value}}
	r := o.Reader(ctx, extra, progress)
	defer r.Close()
	return into.Restore(ctx, r, o.StageBytes(extra))
}
