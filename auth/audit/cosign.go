package audit

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/cloister-os/cloister/auth/audit/proof"
	"github.com/cloister-os/cloister/store"
)

// cosignSpace holds the newest cosignature of each node: node -> cosignRow.
const cosignSpace store.Space = "S/audit/cosign/"

// cosignEvery bounds how often a node cosigns, and so what an idle look and a
// busy log cost.
const cosignEvery = 2 * time.Second

type cosignRow struct {
	V    uint   `cbor:"v"`
	Key  string `cbor:"key"`
	Note string `cbor:"note"`
}

// Cosigner recomputes the log's tree from the records that a node holds and gives
// the node's word for each checkpoint that says the same.
type Cosigner struct {
	log  *Log
	node string
	key  ed25519.PrivateKey
	tree growing
}

// growing is a tree that is extended record by record; it holds the roots of its
// complete subtrees only.
type growing struct {
	size  uint64
	roots [64]tlog.Hash // roots[i] counts when bit i of size is set
}

func (g *growing) add(leaf []byte) {
	h := tlog.RecordHash(leaf)
	level := 0
	for ; g.size>>level&1 == 1; level++ {
		h = tlog.NodeHash(g.roots[level], h)
	}
	g.roots[level] = h
	g.size++
}

func (g *growing) root() (h tlog.Hash) {
	first := true
	for level := range g.roots {
		switch {
		case g.size>>level&1 == 0:
		case first:
			h, first = g.roots[level], false
		default:
			h = tlog.NodeHash(g.roots[level], h)
		}
	}
	return h
}

// NewCosigner returns the cosigner of a node with the key that seal derived for it.
func NewCosigner(l *Log, node string, key ed25519.PrivateKey) *Cosigner {
	return &Cosigner{log: l, node: node, key: key}
}

// Run cosigns until the context ends (nil), or until this node's records are not
// those of the checkpoint (ErrForked), after which nothing it says can be trusted.
func (c *Cosigner) Run(ctx context.Context) error {
	tick := time.NewTicker(cosignEvery)
	defer tick.Stop()
	failing := false
	for {
		err := c.Cosign(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrForked):
			return err
		case err != nil && !failing:
			failing = true
			c.log.logger.Warn("no checkpoint could be cosigned; trying again", "error", err)
		case err == nil:
			failing = false
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Cosign gives this node's word for the newest checkpoint, unless it has.
func (c *Cosigner) Cosign(ctx context.Context) error {
	var err error
	for range 2 { // the log may be replaced by a restore in the middle
		if err = c.cosign(ctx); err == nil || !errors.Is(err, ErrForked) {
			return err
		}
		c.tree = growing{}
	}
	return err
}

func (c *Cosigner) cosign(ctx context.Context) error {
	cp, version, wanted, err := c.wanted(ctx)
	if err != nil || !wanted {
		return err
	}
	if c.tree.size > cp.Size {
		c.tree = growing{}
	}
	for line, err := range c.log.lines(ctx, c.tree.size, cp.Size) {
		if err != nil {
			return err
		}
		c.tree.add(line.Leaf)
	}
	if cp.Size > 0 && c.tree.root() != cp.Root {
		return fmt.Errorf("%w: the records of node %s have another root than the checkpoint of %d records", ErrForked, c.node, cp.Size)
	}
	signed, err := proof.Cosign(cp.Note, c.node, c.key, time.Now())
	if err != nil {
		return fmt.Errorf("cosign checkpoint %d: %w", cp.Size, err)
	}
	value, err := encoding.Marshal(cosignRow{V: 1, Key: signed.Key, Note: signed.Note})
	if err != nil {
		return err
	}
	tx := store.NewTx()
	for _, k := range []store.Key{pendingKey, openKey} {
		tx.Check(k, 0)
	}
	tx.Check(lastKey, version)
	tx.Put(cosignSpace.Key(c.node), value)
	if _, err := c.log.store.Apply(ctx, tx); err != nil && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("cosign checkpoint %d: %w", cp.Size, err)
	}
	return nil // after a conflict there is a newer checkpoint to cosign
}

// wanted is the newest checkpoint, if this node has not cosigned it. One that the
// log key did not sign is never cosigned.
func (c *Cosigner) wanted(ctx context.Context) (cp Checkpoint, version store.Version, wanted bool, err error) {
	err = c.log.store.View(ctx, store.Local, func(s store.Snapshot) error {
		waiting, err := pendingEpoch(s)
		if err != nil || waiting {
			return err
		}
		cp, version, err = lastCheckpoint(s)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		have, err := s.Get(cosignSpace.Key(c.node))
		if errors.Is(err, store.ErrNotFound) {
			wanted = true
			return nil
		}
		if err != nil {
			return err
		}
		var row cosignRow
		if err := readRow(have, &row); err != nil {
			return err
		}
		mine, err := proof.ParseCheckpoint([]byte(row.Note))
		wanted = err != nil || mine.Size != cp.Size || mine.Root != cp.Root
		return nil
	})
	if err != nil || !wanted {
		return cp, version, false, err
	}
	v, err := note.NewVerifier(c.log.key.Load().vkey)
	if err != nil {
		return cp, version, false, err
	}
	if _, err := note.Open(cp.Note, note.VerifierList(v)); err != nil {
		return cp, version, false, fmt.Errorf("%w: the newest checkpoint does not bear its signature", ErrKey)
	}
	return cp, version, true, nil
}

// Cosignatures returns the newest cosignature of each node.
func (l *Log) Cosignatures(ctx context.Context) (map[string]proof.Cosignature, error) {
	out := map[string]proof.Cosignature{}
	err := l.store.View(ctx, store.Local, func(s store.Snapshot) error {
		for item, err := range s.Scan(store.Key(cosignSpace), "") {
			if err != nil {
				return err
			}
			var row cosignRow
			if err := cbor.Unmarshal(item.Value, &row); err != nil {
				return fmt.Errorf("%q: %w", item.Key, err)
			}
			if parts, ok := cosignSpace.Parts(item.Key); ok && len(parts) == 1 {
				out[parts[0]] = proof.Cosignature{Key: row.Key, Note: row.Note}
			}
		}
		return nil
	})
	return out, err
}
