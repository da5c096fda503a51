package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/node/rescue"
	"github.com/cloister-os/cloister/store"
)

// ErrRestored ends a node whose cluster was restored under it: everything that it
// holds in memory is of the data from before. It is to be opened again.
var ErrRestored = errors.New("the cluster was restored, so this node starts again")

// openBackups opens what makes and restores backups, and drops what was derived
// from data that a restore has replaced.
func (n *Node) openBackups(ctx context.Context) error {
	lineage, err := n.lineage(ctx)
	if err != nil {
		return err
	}
	if err := n.disk.derivedFrom(lineage); err != nil {
		return err
	}
	n.backups = rescue.New(rescue.Config{
		Dir: n.backupDir(), Node: n.cfg.Node, Program: n.version, Store: n.store, Blobs: n.blobs,
		Keys: n.keys, Audit: n.audit, Door: n.guard, Recovery: n.cfg.Backup.Recovery, Every: n.cfg.Backup.Every, Keep: n.cfg.Backup.Keep,
		Reserve: n.cfg.Disk.ReserveBytes, Data: n.cfg.Data, Logger: n.log,
	})
	n.rooms.opened("the backups", n.backups.Close)
	n.rooms.runs("scheduled backups", n.backups.Run)
	n.rooms.runs("cosigning the audit log", audit.NewCosigner(n.audit, n.cfg.Node, n.keys.Cosigner(n.cfg.Node)).Run)
	n.rooms.runs("this node", func(ctx context.Context) error { return n.whileLineage(ctx, lineage) })
	return nil
}

// How long a start waits for the epoch that a restore opens, how often the epoch
// is looked at, and how long answers under way may take once it changed.
const (
	lineageWait  = time.Minute
	lineageEvery = time.Second
)

// lineage waits until no epoch of the audit log is being opened and names it.
func (n *Node) lineage(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, lineageWait)
	defer cancel()
	for {
		name, err := n.audit.Lineage(ctx)
		if !errors.Is(err, store.ErrBusy) {
			return name, err
		}
		if n.store.Leads() {
			if _, err := n.audit.Checkpoint(ctx); err != nil {
				return "", err
			}
			continue
		}
		select {
		case <-time.After(lineageEvery / 10):
		case <-ctx.Done():
			return "", fmt.Errorf("wait for the epoch that a restore opens: %w", err)
		}
	}
}

// whileLineage ends with ErrRestored when the data are no longer those that the
// node was opened with.
func (n *Node) whileLineage(ctx context.Context, was string) error {
	tick := time.NewTicker(lineageEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if is, err := n.audit.Lineage(ctx); err == nil && is != was {
			return ErrRestored
		}
	}
}

// derivedFrom removes what was derived from data of another lineage: it follows
// the store by version, and versions of two lineages do not mean the same.
func (d *disk) derivedFrom(lineage string) error {
	path := filepath.Join(d.dir, "lineage")
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the file %s cannot be read: %w", path, reason(err))
	}
	was := strings.TrimSpace(string(b))
	if was == lineage {
		return nil
	}
	if was != "" || lineage != "1" {
		if err := errors.Join(os.RemoveAll(d.index()), os.MkdirAll(d.index(), 0o700)); err != nil {
			return fmt.Errorf("remove the index of the data from before the restore: %w", reason(err))
		}
	}
	if err := writeFile(path, []byte(lineage+"\n"), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, reason(err))
	}
	return nil
}
