package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/hashicorp/raft"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/sealed"
)

// The log cannot be sealed anew in place: what is older than a new key must be cut
// off. While that is to happen, so many entries are kept for followers instead of
// trailingLogs, and as many are written when nobody else writes any.
const (
	rekeyTrailing = 64
	rekeyRounds   = 4 // each leaves one more snapshot; raft keeps two
)

// fillerSpace holds what is written to push the log on: one key for each node.
const fillerSpace store.Space = "S/store/rekey/"

// Rekey makes what the node keeps need the ring's active key alone, while it works.
// It may be ended at any moment and called again.
func (n *Node) Rekey(ctx context.Context) error {
	if n.cfg.Ring == nil {
		return nil
	}
	if err := n.machine.Rekey(); err != nil {
		return err
	}
	if err := n.logs.rekey(); err != nil {
		return err
	}
	active, _ := n.cfg.Ring.Active()
	for range rekeyRounds {
		old, err := n.older(ctx, active)
		if err != nil || !old {
			return err
		}
		if err := n.push(ctx); err != nil {
			return err
		}
		if err := n.cutShort(); err != nil {
			return err
		}
	}
	return nil
}

// cutShort cuts the log and keeps few entries for followers.
func (n *Node) cutShort() error {
	usual := n.raft.ReloadableConfig()
	few := usual
	few.TrailingLogs = rekeyTrailing
	err := n.raft.ReloadConfig(few)
	if err == nil {
		n.cut()
		err = n.raft.ReloadConfig(usual)
	}
	if err != nil {
		return fmt.Errorf("cut the log: %w", err)
	}
	return nil
}

// older reports whether the log or a snapshot needs another key than the active.
func (n *Node) older(ctx context.Context, active uint32) (bool, error) {
	ids, err := n.logs.keys()
	if err != nil {
		return false, err
	}
	snaps, err := n.snapshotKeys(ctx)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(append(ids, snaps...), func(id uint32) bool { return id != active }), nil
}

// push appends entries to the log, so that it can be cut behind them.
func (n *Node) push(ctx context.Context) error {
	for i := range rekeyTrailing + 2 {
		tx := store.NewTx()
		tx.Put(fillerSpace.Key(n.cfg.NodeID), []byte{byte(i)})
		if _, err := n.Apply(ctx, tx); err != nil {
			return fmt.Errorf("push the log on: %w", err)
		}
	}
	return nil
}

// Keys are the ids of the ring's keys that the log, the databases and the snapshots
// need.
func (n *Node) Keys(ctx context.Context) ([]uint32, error) {
	if n.cfg.Ring == nil {
		return nil, nil
	}
	ids, err := n.machine.Keys()
	if err != nil {
		return nil, err
	}
	logs, err := n.logs.keys()
	if err != nil {
		return nil, err
	}
	snaps, err := n.snapshotKeys(ctx)
	if err != nil {
		return nil, err
	}
	ids = slices.Concat(ids, logs, snaps)
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

func (n *Node) snapshotKeys(ctx context.Context) ([]uint32, error) {
	if s, ok := n.snapshots.(*sealedSnapshots); ok {
		return s.Keys(ctx)
	}
	return nil, errors.New("the snapshots do not say which keys they need")
}

// rekey seals anew what the log keeps beside its entries.
func (l *logStore) rekey() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	v, err := l.Get(votedFor)
	if err != nil || len(v) == 0 {
		return err
	}
	return l.check("write the log", l.set(votedFor, v))
}

// keys are the ids of the keys that the log's entries and values are sealed with.
// Ids only grow along the log, since only newer keys become active: so each next one
// is found by halving.
func (l *logStore) keys() ([]uint32, error) {
	l.mu.Lock() // nothing is being appended
	defer l.mu.Unlock()
	var ids []uint32
	if rec, err := l.Log.Get(votedFor); err != nil {
		return nil, err
	} else if len(rec) > 0 {
		ids = append(ids, sealed.RecordKey(rec))
	}
	for {
		logs, err := l.entryKeys()
		if !errors.Is(err, raft.ErrLogNotFound) { // else the log was cut meanwhile
			return append(ids, logs...), err
		}
	}
}

func (l *logStore) entryKeys() ([]uint32, error) {
	first, err := l.FirstIndex()
	if err != nil {
		return nil, err
	}
	last, err := l.LastIndex()
	if err != nil {
		return nil, err
	}
	var ids []uint32
	for at := first; at > 0 && at <= last; {
		id, err := l.entryKey(at)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
		var failed error
		at += 1 + uint64(sort.Search(int(last-at), func(i int) bool {
			k, err := l.entryKey(at + 1 + uint64(i))
			failed = errors.Join(failed, err)
			return k > id
		}))
		if failed != nil {
			return nil, failed
		}
	}
	return ids, nil
}

func (l *logStore) entryKey(index uint64) (uint32, error) {
	var e raft.Log
	if err := l.Log.GetLog(index, &e); err != nil {
		return 0, err
	}
	return sealed.RecordKey(e.Data), nil
}
