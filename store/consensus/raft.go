package consensus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/cloister-os/cloister/store/machine"
	"github.com/cloister-os/cloister/store/sealed"
)

// joinable are the settings of a node that has peers, or may get some: timeouts
// near a second, since appends are bounded and run on raft's own goroutine.
// Snapshots are taken by Node.sync alone.
var joinable = raft.ReloadableConfig{
	TrailingLogs:      1024, // at most 256 MiB of groups
	SnapshotInterval:  24 * time.Hour,
	SnapshotThreshold: math.MaxUint64,
	HeartbeatTimeout:  time.Second,
	ElectionTimeout:   time.Second,
}

// startRaft starts raft, founding a cluster of one when the log is empty.
func (n *Node) startRaft() (*raft.Raft, error) {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(n.cfg.NodeID)
	c.Logger = raftLogger(n.log)
	c.MaxAppendEntries = 16 // raft bounds appends by count only; a group is up to 256 KiB
	c.TrailingLogs, c.SnapshotInterval, c.SnapshotThreshold = joinable.TrailingLogs, joinable.SnapshotInterval, joinable.SnapshotThreshold
	// The databases know what they have applied; the metadata snapshot holds no data.
	c.NoSnapshotRestoreOnStart = true
	// A node that has no peers waits for nobody. settle raises these once it leads.
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 20*time.Millisecond, 20*time.Millisecond, 20*time.Millisecond

	addr, inner := raft.NewInmemTransport(raft.ServerAddress(n.cfg.NodeID))
	old, err := raft.HasExistingState(n.logs, n.logs, n.snapshots)
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	if !old {
		first := raft.Configuration{Servers: []raft.Server{{ID: c.LocalID, Address: addr}}}
		if err := raft.BootstrapCluster(c, n.logs, n.logs, n.snapshots, transport{inner}, first); err != nil {
			return nil, fmt.Errorf("found the cluster: %w", err)
		}
	}
	r, err := raft.NewRaft(c, (*fsm)(n), n.logs, n.logs, n.snapshots, transport{inner})
	if err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	return r, nil
}

// transport keeps heartbeats off the transport's goroutine: handled there, one
// can change the term while the leader writes (hashicorp/raft issue 695).
type transport struct{ *raft.InmemTransport }

// SetHeartbeatHandler does nothing, so every request runs on raft's goroutine.
func (transport) SetHeartbeatHandler(func(raft.RPC)) {}

// fsm is the node as raft sees it.
type fsm Node

// Apply implements raft.FSM. raft has no way to stop on an error, so the machine
// refuses everything after its first one.
func (f *fsm) Apply(l *raft.Log) any {
	a, err := f.machine.Apply(l.Index, l.Data)
	if err != nil {
		(*Node)(f).fail(err)
		return err
	}
	return a
}

// Snapshot implements raft.FSM. raft takes the index it has applied for the
// snapshot's and cuts the log there, so the mark is moved to it first.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if err := f.machine.Sync(); err != nil {
		(*Node)(f).fail(err)
		return nil, err
	}
	return metadata{}, nil
}

// Restore implements raft.FSM. The snapshot's sink was closed before, so its
// index is that of the newest one; a crash before the end of the restore is
// made good by Node.checkAge at the next start.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	snaps, err := f.snapshots.List()
	if err != nil || len(snaps) == 0 {
		return fmt.Errorf("restore: no snapshot is listed: %w", err)
	}
	if err := (*Node)(f).restore(r, snaps[0].Index); err != nil {
		(*Node)(f).fail(err)
		return err
	}
	return nil
}

// metadata is a routine snapshot: the databases are the data.
type metadata struct{}

// Persist implements raft.FSMSnapshot.
func (metadata) Persist(sink raft.SnapshotSink) error {
	if err := machine.WriteMetadata(sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (metadata) Release() {}

// snapshotStore is raft's, and syncs the folder of a snapshot as well: raft syncs
// a snapshot's files and the name of its folder, but not the files' names in it.
type snapshotStore struct {
	*raft.FileSnapshotStore
	dir string
}

func openSnapshots(dir string, ring sealed.Ring, log *slog.Logger) (*sealedSnapshots, error) {
	own := filepath.Join(dir, "snapshots")
	if err := machine.MakeDir(own); err != nil { // raft would not sync its name
		return nil, err
	}
	s, err := raft.NewFileSnapshotStoreWithLogger(dir, 2, raftLogger(log))
	if err != nil {
		return nil, fmt.Errorf("open the snapshots: %w", err)
	}
	return sealSnapshots(&snapshotStore{s, own}, own, ring), nil
}

// Create implements raft.SnapshotStore.
func (s *snapshotStore) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.FileSnapshotStore.Create(v, index, term, c, ci, t)
	if err != nil {
		return nil, err
	}
	return &snapshotSink{sink, filepath.Join(s.dir, sink.ID())}, nil
}

type snapshotSink struct {
	raft.SnapshotSink
	dir string
}

// Close implements raft.SnapshotSink. The log is cut after it.
func (s *snapshotSink) Close() error {
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	d, err := os.Open(s.dir)
	if err != nil {
		return fmt.Errorf("sync the snapshot: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// raftLogger passes on what raft and raft-wal say that an operator may need.
func raftLogger(log *slog.Logger) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, JSONFormat: true, Output: slogLines{log}})
}

type slogLines struct{ log *slog.Logger }

// Write takes one line of hclog's JSON. raft warns of what is a matter of
// course on one node (an election at each start), so its warnings are details.
func (s slogLines) Write(line []byte) (int, error) {
	m := map[string]any{}
	if err := json.Unmarshal(line, &m); err != nil {
		s.log.Debug("raft: " + strings.TrimSpace(string(line)))
		return len(line), nil
	}
	level := slog.LevelDebug
	if m["@level"] == "error" {
		level = slog.LevelError
	}
	msg := fmt.Sprint("raft: ", m["@message"])
	var attrs []any
	for _, k := range []string{"error", "index", "id"} {
		if v, ok := m[k]; ok {
			attrs = append(attrs, k, v)
		}
	}
	s.log.Log(context.Background(), level, msg, attrs...)
	return len(line), nil
}
