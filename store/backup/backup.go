// Package backup writes everything that a cluster keeps into a folder that is
// enough to bring it back on other machines, and reads it again.
//
// It promises: a backup is taken while writing goes on, and holds one version of
// both databases, every blob that the version names, and the sealed keys; a later
// backup names the one before it and holds only what came since (a chain); what
// was begun is invisible until it is whole, and taken up again after a crash;
// every byte is covered by a signature of the log key, so a changed, missing, cut
// or foreign file is refused and named, without any secret; nothing in it can be
// read without the cluster's root key, or the recovery key that it was made for.
// Memory is bounded: besides buffers, 64 bytes for each blob.
//
// A backup is a folder:
//
//	manifest        what it holds, as a note signed by the log key; see Manifest
//	state, history  the two databases' parts, sealed; see machine.StageSince
//	blobs-000001 …  blobs that no earlier backup of the chain holds, sealed
//	blobs           where each blob stands, sealed
//
// Each file is sealed under a random key of the backup, which is wrapped by the
// root key. It may import store, store/machine, store/blob and store/sealed.
package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/machine"
)

// The kinds of refusal.
var (
	ErrDamaged = errors.New("the backup is damaged")
	ErrMissing = errors.New("a backup is missing")
	ErrForeign = errors.New("the backup is not of this cluster")
	ErrKey     = errors.New("the key does not open the backup")
	ErrNoSpace = errors.New("the disk is full")
	ErrBusy    = errors.New("a backup is being made")
)

// refusal is one sentence of a kind.
type refusal struct {
	kind error
	text string
}

func (r *refusal) Error() string { return r.text }

// Is makes errors.Is(err, kind) true.
func (r *refusal) Is(target error) bool { return target == r.kind }

func refuse(kind error, format string, args ...any) error {
	return &refusal{kind, fmt.Sprintf(format, args...)}
}

// Sealer wraps the keys of backups under the root key; seal.Keys is one.
type Sealer interface {
	Seal(aad, plain []byte) ([]byte, error)
	Open(aad, sealed []byte) ([]byte, error)
}

// VerifyFunc opens a signed manifest. keys is the key history that the manifest
// carries, in the form that whoever signed gave it; the function decides which
// of those keys it trusts.
type VerifyFunc func(note []byte, keys json.RawMessage) (text string, err error)

// Stager gives the databases; consensus.Node is one.
type Stager interface {
	StageSince(ctx context.Context, since store.Version, open func(store.Database) (io.Writer, error)) (machine.Head, [2]machine.Part, error)
}

// Blobs gives the blobs. List is read after the databases were staged, so that
// what they name is among them.
type Blobs interface {
	List(ctx context.Context) iter.Seq2[blob.Info, error]
	Open(ctx context.Context, h blob.Hash) (io.ReadCloser, int64, error)
}

// Progress says how far long work is.
type Progress struct {
	Step  string `json:"step"` // "databases", "blobs", "checking", "restoring", …
	Done  int64  `json:"done"` // bytes
	Total int64  `json:"total"`
}

// keyRing is the one key that a backup is sealed under.
type keyRing [32]byte

// Active implements sealed.Ring.
func (k *keyRing) Active() (uint32, []byte) { return 1, k[:] }

// Key implements sealed.Ring.
func (k *keyRing) Key(id uint32) ([]byte, bool) { return k[:], id == 1 }

func keyAAD(id string) []byte        { return []byte("cloister backup key/1\n" + id) }
func fileAAD(id, name string) []byte { return []byte("cloister backup/1\n" + id + "\n" + name) }
