package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/audit/proof"
	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/node/cluster"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/backup"
	"github.com/cloister-os/cloister/store/consensus"
)

// Wreck is what a stopped node has of a cluster that lost most of its nodes.
type Wreck struct {
	Data     string            `json:"data"`
	Node     string            `json:"node"`
	Members  []consensus.Peer  `json:"members"`
	Applied  store.Version     `json:"applied"`
	Doubtful uint64            `json:"doubtful"` // entries that may never have been acknowledged, and will count
	Newest   time.Time         `json:"newest"`   // when the newest group that is decided for certain was made
	Bytes    int64             `json:"bytes"`    // that are kept aside
	Remains  consensus.Remains `json:"-"`
	keys     *seal.Keys        // open
	ring     *seal.Keyring     // open
	place    cluster.Place     // as it is
	disk     *disk             // held
	log      *slog.Logger      // of what is opened
	free     func(string) (int64, error)
}

// Survey looks at a stopped node and says what Recover would start from. It
// changes nothing that a start would not. When the root key is split, its holders
// are asked for their shares. Close gives the folder back.
func Survey(ctx context.Context, data string, ask AskShare, log *slog.Logger) (*Wreck, error) {
	place, err := cluster.ReadPlace(data)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the folder %s holds no node's data: give the data folder of a node that was stopped", data)
	}
	if err != nil {
		return nil, err
	}
	d, err := openDisk(data)
	if err != nil {
		return nil, err
	}
	w := &Wreck{Data: data, Node: place.Node, place: place, disk: d, log: log, free: backup.FreeBytes}
	if err := w.survey(ask); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return w, nil
}

func (w *Wreck) survey(ask AskShare) (err error) {
	if w.keys, err = openStopped(w.disk.seal(), ask); err != nil {
		return err
	}
	if w.ring, err = w.keys.Keyring(w.Node, false); err != nil {
		return err
	}
	if w.Remains, err = consensus.Inspect(w.config()); err != nil {
		return err
	}
	w.Members, w.Applied, w.Doubtful, w.Newest = w.Remains.Members, w.Remains.Applied, w.Remains.Doubtful, w.Remains.Time
	for _, part := range w.parts() {
		n, err := sizeOf(filepath.Join(w.Data, part))
		if err != nil {
			return err
		}
		w.Bytes += n
	}
	return nil
}

func (w *Wreck) config() consensus.Config {
	return consensus.Config{Dir: w.Data, NodeID: w.Node, Logger: w.log, Address: w.place.Address, Ring: w.ring, ReserveBytes: -1}
}

// Close lets the folder go.
func (w *Wreck) Close() error { return w.disk.Close() }

// parts are the files that a recovery changes.
func (w *Wreck) parts() []string {
	out := []string{"raft", "CURRENT", "cluster.json"}
	generations, err := filepath.Glob(filepath.Join(w.Data, "gen-*"))
	if err != nil {
		return out // the pattern is well formed
	}
	for _, g := range generations {
		out = append(out, filepath.Base(g))
	}
	return out
}

// Recovered is what became of a recovery.
type Recovered struct {
	Node  string `json:"node"`
	Aside string `json:"aside"` // where the files are as they were
	Epoch uint64 `json:"epoch"`
	Size  uint64 `json:"records"` // of the audit log
}

// Recover makes the node the only one of its cluster, which gets an identity of
// its own: what is left of the other nodes is not let in. The files are copied
// aside first. The audit log opens an epoch.
func (w *Wreck) Recover(ctx context.Context, why string) (out Recovered, err error) {
	if err := w.room(); err != nil {
		return out, err
	}
	out = Recovered{Node: w.Node, Aside: filepath.Join(w.Data, "before-recovery-"+time.Now().UTC().Format("20060102T150405Z"))}
	if err := w.copyAside(ctx, out.Aside); err != nil {
		return out, errors.Join(fmt.Errorf("keep the files aside: %w", reason(err)), os.RemoveAll(out.Aside))
	}
	if err := writeFile(filepath.Join(w.Data, recovering), nil, 0o600); err != nil {
		return out, fmt.Errorf("the data folder %s cannot be written: %w", w.Data, reason(err))
	}
	if _, err := consensus.Recover(w.config()); err != nil {
		return out, fmt.Errorf("%w; the files as they were are in %s", err, out.Aside)
	}
	s, err := openAlone(ctx, w.Data, w.Node, w.ring, w.log)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := w.mark(ctx, s, why); err != nil {
		return out, err
	}
	if err := newIdentity(ctx, s, w.Data, w.Node, w.place.Address); err != nil {
		return out, err
	}
	cp, err := openEpoch(ctx, s, w.keys, w.log)
	if err != nil {
		return out, err
	}
	out.Epoch, out.Size = cp.Epoch, cp.Size
	return out, os.Remove(filepath.Join(w.Data, recovering))
}

// recovering marks a folder whose recovery did not come to its end: its node must
// not be served before the epoch is open.
const recovering = "recovering"

// recovered refuses such a folder.
func (d *disk) recovered() error {
	if _, err := os.Lstat(filepath.Join(d.dir, recovering)); err == nil {
		return fmt.Errorf("the recovery of the data folder %s did not come to its end: run cloister node recover again", d.dir)
	}
	return nil
}

// mark says in the store that an epoch must be opened before anything is signed.
func (w *Wreck) mark(ctx context.Context, s store.Store, why string) error {
	key, value, err := audit.PendingEpoch(audit.EpochCause{How: proof.HowRecovered, From: w.Node, By: operator(), Reason: why})
	if err != nil {
		return err
	}
	tx := store.NewTx()
	tx.Put(key, value)
	_, err = s.Apply(ctx, tx)
	return err
}

func (w *Wreck) room() error {
	free, err := w.free(w.Data)
	if err == nil && free < w.Bytes+64<<20 {
		err = fmt.Errorf("the disk of %s has %d MiB free, and %d MiB are needed to keep the files as they are: free some space", w.Data, free>>20, (w.Bytes+64<<20)>>20)
	}
	return err
}

func (w *Wreck) copyAside(ctx context.Context, to string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	for _, part := range w.parts() {
		if err := copyTree(ctx, filepath.Join(w.Data, part), filepath.Join(to, part)); err != nil {
			return err
		}
	}
	return nil
}

// copyTree copies files and folders, durably.
func copyTree(ctx context.Context, from, to string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if e.IsDir() {
			return os.Mkdir(target, 0o700)
		}
		return copyFile(path, target)
	})
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

func sizeOf(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}
