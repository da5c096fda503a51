package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/audit/proof"
	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/node/cluster"
	"github.com/cloister-os/cloister/node/cluster/roster"
	"github.com/cloister-os/cloister/node/rescue"
	"github.com/cloister-os/cloister/store/backup"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/consensus"
	"github.com/cloister-os/cloister/store/sealed"
)

// Bare is a cluster to be brought back on a machine that has nothing of it.
type Bare struct {
	From   string // a backup: its folder, beside those that it builds on
	Data   string // a folder that is empty or not there yet
	Node   string // the name of the first node
	Root   []byte // the content of root.key; nil = its holders bring their shares
	Shares AskShare
	Before []byte // the newest checkpoint that anybody holds; nil = none
	Reason string
	Free   func(dir string) (int64, error) // nil = ask the disk
	Log    *slog.Logger
}

// Restored is what became of it.
type Restored struct {
	Node   string `json:"node"`
	Data   string `json:"data"`
	Backup string `json:"backup"`
	Taken  string `json:"taken"` // when the backup was
	LogKey string `json:"log_key"`
	Epoch  uint64 `json:"epoch"`
	Size   uint64 `json:"records"` // of the audit log, the epoch's opening included
	Blobs  int64  `json:"blobs"`
	Shared bool   `json:"shared"` // people must bring their shares at its start
}

// restoring marks a folder into which a restore did not come to its end.
const restoring = "restoring"

// Restore makes a node out of a backup: the first of a cluster of its own, which
// others join. It has the keys of the cluster that the backup is of, and an
// identity of its own, so that what may be left of the old nodes cannot meddle.
// After an error the folder holds nothing.
func Restore(ctx context.Context, in Bare, progress func(backup.Progress)) (out Restored, err error) {
	if in.Free == nil {
		in.Free = backup.FreeBytes
	}
	if err := emptied(in.Data); err != nil {
		return out, err
	}
	d, err := openBare(in.Data)
	if err != nil {
		return out, err
	}
	defer d.Close()
	if err := writeFile(filepath.Join(in.Data, restoring), nil, 0o600); err != nil {
		return out, fmt.Errorf("the data folder %s cannot be written: %w", in.Data, reason(err))
	}
	if out, err = restoreInto(ctx, d, in, progress); err != nil {
		return out, errors.Join(err, clearFolder(in.Data))
	}
	if err := keepForgotten(in); err != nil {
		return out, errors.Join(err, clearFolder(in.Data))
	}
	return out, os.Remove(filepath.Join(in.Data, restoring))
}

// emptied clears a folder in which an earlier restore was interrupted.
func emptied(dir string) error {
	_, err := os.Lstat(filepath.Join(dir, restoring))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the data folder %s cannot be read: %w", dir, reason(err))
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return err
	}
	return errors.Join(clearFolder(dir), lock.Close())
}

// clearFolder removes everything in a folder but its lock, the mark last.
func clearFolder(dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Name() == "lock" || e.Name() == restoring {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	err = os.Remove(filepath.Join(dir, restoring))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func restoreInto(ctx context.Context, d *disk, in Bare, progress func(backup.Progress)) (out Restored, err error) {
	claimed, err := backup.Claims(in.From)
	if err != nil {
		return out, err
	}
	keys, err := rebuildSeal(d.seal(), in, claimed.Seal)
	if err != nil {
		return out, err
	}
	fingerprint, err := proof.FingerprintOf(keys.LogVerifierKey())
	if err != nil {
		return out, err
	}
	folder := backup.Folder{Dir: filepath.Dir(filepath.Clean(in.From)), Verify: rescue.Verifier(fingerprint)}
	c, err := folder.Chain(filepath.Base(filepath.Clean(in.From)))
	if err != nil {
		return out, err
	}
	if err := sameLog(in.Before, keys); err != nil {
		return out, err
	}
	if err := c.Check(ctx, progress); err != nil {
		return out, err
	}
	o, err := c.Open(keys)
	if err != nil {
		return out, err
	}
	if err := o.Room(in.Data, in.Free, 0); err != nil {
		return out, err
	}
	m := c.Last()
	out = Restored{Node: in.Node, Data: in.Data, Backup: m.Name, Taken: m.Time.Format("2006-01-02 15:04:05 UTC"), LogKey: fingerprint}
	_, _, out.Shared = keys.Shared()
	for _, n := range o.Counts() {
		out.Blobs += n.Count
	}
	return out, fillFolder(ctx, d, in, o, keys, &out, progress)
}

// sameLog refuses a checkpoint that cannot say what the restore has lost.
func sameLog(checkpoint []byte, keys *seal.Keys) error {
	if checkpoint == nil {
		return nil
	}
	cp, err := proof.ParseCheckpoint(checkpoint)
	if err != nil {
		return fmt.Errorf("what was lost cannot be said: %w", err)
	}
	if cp.Origin != keys.LogSigner().Name() {
		return fmt.Errorf("the checkpoint is of the log %s, and the backup of %s: give one of the same cluster, or none", cp.Origin, keys.LogSigner().Name())
	}
	return nil
}

// fillFolder opens the rooms that a backup goes into, and fills them.
func fillFolder(ctx context.Context, d *disk, in Bare, o *backup.Opened, keys *seal.Keys, out *Restored, progress func(backup.Progress)) (err error) {
	ring, err := keys.Keyring(in.Node, true)
	if err != nil {
		return err
	}
	blobs, err := blob.Open(d.blobs(), blob.WithRing(ring))
	if err != nil {
		return err
	}
	if err := rescue.PutBlobs(ctx, o, blobs, progress); err != nil {
		return err
	}
	s, err := openAlone(ctx, in.Data, in.Node, ring, in.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	cause := audit.EpochCause{How: proof.HowRestored, From: out.Backup, By: operator(), Reason: in.Reason, Before: in.Before}
	if err := rescue.Replace(ctx, o, s, cause, progress); err != nil {
		return err
	}
	if err := newIdentity(ctx, s, d.dir, in.Node, ""); err != nil {
		return err
	}
	cp, err := openEpoch(ctx, s, keys, in.Log)
	out.Epoch, out.Size = cp.Epoch, cp.Size
	return err
}

// operator is who runs a command on a machine: nobody is signed in.
func operator() audit.Actor { return audit.Actor{Kind: auth.System, ID: "operator"} }

// openAlone opens the store of a node that talks to nobody.
func openAlone(ctx context.Context, data, name string, ring sealed.Ring, log *slog.Logger) (*consensus.Node, error) {
	s, err := consensus.Open(ctx, consensus.Config{Dir: data, NodeID: name, Logger: log, Found: true, Ring: ring, ReserveBytes: -1})
	if err != nil {
		return nil, err
	}
	select {
	case <-s.Ready():
		return s, nil
	case err = <-s.Fatal():
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, errors.Join(err, s.Close())
}

// newIdentity makes the node the founder of a cluster of one with an id of its
// own, so that no node of the one before is let in, and forgets those.
func newIdentity(ctx context.Context, s *consensus.Node, data, name, address string) error {
	if err := roster.Forget(ctx, s); err != nil {
		return err
	}
	id := make([]byte, 16)
	rand.Read(id)
	return cluster.Place{Cluster: hex.EncodeToString(id), Node: name, Founder: true, Address: address}.Write(data)
}

// openEpoch opens the epoch that is pending, and signs it.
func openEpoch(ctx context.Context, s *consensus.Node, keys *seal.Keys, log *slog.Logger) (audit.Checkpoint, error) {
	l, err := audit.New(audit.Config{Store: s, Signer: keys.LogSigner(), VerifierKey: keys.LogVerifierKey(), Sealer: keys, Logger: log})
	if err != nil {
		return audit.Checkpoint{}, err
	}
	return l.Checkpoint(ctx)
}

// RootKey gives the root key that a backup is opened with: the content of a file
// that is either root.key itself or the recovery key that the backup was made for.
func RootKey(file []byte, from string) ([]byte, error) {
	if !strings.HasPrefix(string(bytes.TrimSpace(file)), "cloister-recovery-secret") {
		return file, nil
	}
	m, err := backup.Claims(from)
	if err != nil {
		return nil, err
	}
	return seal.OpenRoot(string(file), m.Recovery)
}

// NewRecoveryKey makes a recovery key: what is kept in a safe, and what every node
// is configured with.
func NewRecoveryKey() (secret, public string, err error) { return seal.NewRecoveryKey() }
