package consensus

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine"
	"github.com/cloister-os/cloister/store/sealed"
)

const (
	// Timeouts are near a second, since appends are bounded and run on raft's own
	// goroutine, where heartbeats wait for them.
	heartbeatTimeout = time.Second
	leaderLease      = 500 * time.Millisecond
	// commitTimeout is how soon an idle follower hears what is committed.
	commitTimeout = 20 * time.Millisecond
	trailingLogs  = 1024 // see Config.TrailingLogs
	// cachedLogs is how many entries are kept in memory for them and for the state
	// machine, so that a fresh one is not read from the disk by each.
	cachedLogs = 64
)

// startRaft starts raft, founding a cluster of one when the log is empty and
// this node is to found one.
func (n *Node) startRaft() (r *raft.Raft, err error) {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(n.cfg.NodeID)
	c.Logger = raftLogger(n.log)
	c.MaxAppendEntries = 16 // raft bounds appends by count only; a group is up to 256 KiB
	c.TrailingLogs = n.cfg.TrailingLogs
	// Snapshots are taken by Node.sync alone.
	c.SnapshotInterval, c.SnapshotThreshold = 24*time.Hour, math.MaxUint64
	// The databases know what they have applied; the metadata snapshot holds no data.
	c.NoSnapshotRestoreOnStart = true
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = heartbeatTimeout, heartbeatTimeout, leaderLease
	c.CommitTimeout = commitTimeout
	c.ShutdownOnRemove = false

	n.transport = newTransport(n)
	defer func() {
		if p := recover(); p != nil { // raft could not save its term; see stable
			err = fmt.Errorf("start raft: %v", p)
		}
		if err != nil {
			err = errors.Join(err, n.transport.Close())
		}
	}()
	if err := n.found(c); err != nil {
		return nil, err
	}
	last, err := n.logs.LastIndex()
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	n.learner.stored.Store(last)
	logs, err := raft.NewLogCache(cachedLogs, watchedLog{n.logs, n, &atomic.Bool{}})
	if err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	values := &stable{logStore: n.logs}
	r, err = raft.NewRaft(c, (*fsm)(n), logs, values, n.snapshots, n.transport)
	if err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	values.running.Store(true)
	n.known.start.Index, n.known.start.Term = r.LastIndex(), r.CurrentTerm()
	n.end = sync.OnceValue(r.Shutdown)
	servers := r.GetConfiguration().Configuration().Servers
	if len(servers) == 1 && servers[0].ID == c.LocalID {
		// Who is all of the cluster waits for nobody's heartbeat before it leads.
		go n.transport.inject(&raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}})
	}
	return r, nil
}

// stable is raft's store of values. raft panics when it cannot save its term. The
// node has failed by then (see logStore.check) and is told so by Node.Fatal; what
// has to end is raft's goroutine, not the process in the middle of anything.
type stable struct {
	*logStore
	running atomic.Bool
}

// SetUint64 implements raft.StableStore.
func (s *stable) SetUint64(k []byte, v uint64) error {
	err := s.logStore.SetUint64(k, v)
	if err != nil && s.running.Load() {
		runtime.Goexit()
	}
	return err
}

// found makes a cluster of one of an empty log.
func (n *Node) found(c *raft.Config) error {
	old, err := raft.HasExistingState(n.logs, n.logs, n.snapshots)
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	if old || n.cfg.Peers != nil && !n.cfg.Found {
		return nil
	}
	first := raft.Configuration{Servers: []raft.Server{{ID: c.LocalID, Address: n.transport.LocalAddr()}}}
	if err := raft.BootstrapCluster(c, n.logs, n.logs, n.snapshots, n.transport, first); err != nil {
		return fmt.Errorf("found the cluster: %w", err)
	}
	return nil
}

// fsm is the node as raft sees it.
type fsm Node

// Apply implements raft.FSM. raft has no way to stop on an error, so the machine
// refuses everything after its first one.
func (f *fsm) Apply(l *raft.Log) any {
	n := (*Node)(f)
	if r := n.helm.now().reign; r != nil && r.term == l.Term {
		n.visitors.committed(l.Term, l.Index)
	}
	a, err := n.machine.Apply(l.Index, l.Data)
	if err != nil {
		n.fail(err)
		return err
	}
	n.progress.set(l.Index)
	if a != nil {
		n.chains.note(n.machine, l.Index)
		n.origin.home(a, n.cfg.NodeID)
		if err := n.outrank(); err != nil {
			n.fail(err)
			return err
		}
	}
	return nil
}

// StoreConfiguration implements raft.ConfigurationStore.
func (f *fsm) StoreConfiguration(index uint64, c raft.Configuration) {
	n := (*Node)(f)
	n.known.follow(index, memberSet(c))
	n.progress.set(index)
	n.mesh.follow(c.Servers)
}

// Snapshot implements raft.FSM. raft takes the index it has applied for the
// snapshot's and cuts the log there, so the mark is moved to it first.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if err := f.machine.Sync(); err != nil {
		(*Node)(f).fail(err)
		return nil, err
	}
	return metadata{f.machine.Mark()}, nil
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
	f.known.restore(snaps[0].ConfigurationIndex, memberSet(snaps[0].Configuration))
	return nil
}

// metadata is a routine snapshot: the databases are the data, and held is what
// they hold for certain.
type metadata struct{ held store.Version }

// Persist implements raft.FSMSnapshot.
func (m metadata) Persist(sink raft.SnapshotSink) error {
	err := machine.WriteMetadata(sink)
	if err == nil {
		_, err = sink.Write(binary.BigEndian.AppendUint64(nil, uint64(m.held)))
	}
	if err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// readMetadata reads what a routine snapshot says is held; 0 for a snapshot of
// data, which is then to be read from the returned reader.
func readMetadata(r io.Reader) (held store.Version, whole io.Reader, err error) {
	var want bytes.Buffer
	if err := machine.WriteMetadata(&want); err != nil {
		return 0, nil, err
	}
	head := make([]byte, want.Len())
	k, err := io.ReadFull(r, head)
	if err != nil {
		return 0, nil, err
	}
	if !bytes.Equal(head[:k], want.Bytes()) {
		return 0, io.MultiReader(bytes.NewReader(head[:k]), r), nil
	}
	var v [8]byte
	if _, err := io.ReadFull(r, v[:]); err != nil {
		return 0, nil, err
	}
	return store.Version(binary.BigEndian.Uint64(v[:])), nil, nil
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
	text := fmt.Sprint(m["@message"])
	level := slog.LevelDebug
	if m["@level"] == "error" && !ofPeer(text) {
		level = slog.LevelError
	}
	msg := "raft: " + text
	var attrs []any
	for _, k := range []string{"error", "index", "id"} {
		if v, ok := m[k]; ok {
			attrs = append(attrs, k, v)
		}
	}
	s.log.Log(context.Background(), level, msg, attrs...)
	return len(line), nil
}

// ofPeer reports whether an error of raft's is about a peer that cannot be
// reached, which it repeats many times a second; a link says it once.
func ofPeer(text string) bool {
	for _, begin := range []string{
		"failed to heartbeat to", "failed to appendEntries to", "failed to pipeline appendEntries to", "failed to start pipeline",
		"failed to make requestVote RPC", "failed to decode incoming command", "failed to accept connection", "failed to flush response",
		"failed to send snapshot to", "failed to install snapshot", "peer has newer term", "failed to get log",
	} {
		if strings.HasPrefix(text, begin) {
			return true
		}
	}
	return false
}
