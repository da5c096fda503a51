package consensus

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine"
)

// Remains is what a stopped node has of a cluster whose other nodes are lost.
type Remains struct {
	Members []Peer        // who belonged to the cluster, as far as this node knows
	Applied store.Version // decided for certain
	Last    uint64        // the newest entry of its log
	// Doubtful is how many entries lie above Applied: nobody is left to say whether
	// they were acknowledged to anyone. Recover makes them count.
	Doubtful uint64
	Time     time.Time // leader time of the newest group applied
}

// Inspect says what Recover would start from. It changes nothing but what every
// start does.
func Inspect(cfg Config) (r Remains, err error) {
	n, err := openRemains(cfg)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, n.closeFiles()) }()
	return n.remains()
}

// Recover makes a node that is stopped the only one of its cluster, at its own
// address. Whatever its log holds counts from now on, acknowledged or not; what
// only the lost nodes had is lost. It must never be run on two nodes of a cluster:
// each would go its own way. Run it again after a crash.
func Recover(cfg Config) (r Remains, err error) {
	n, err := openRemains(cfg)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, n.closeFiles()) }()
	if r, err = n.remains(); err != nil {
		return r, err
	}
	f := &recoverer{machine: n.machine}
	_, inner := raft.NewInmemTransport("")
	own := raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(n.cfg.NodeID), Address: raft.ServerAddress(n.own())}}}
	err = raft.RecoverCluster(n.recoverConfig(), f, n.logs, n.logs, n.snapshots, inner, own)
	if err = errors.Join(f.failed, err); err != nil {
		return r, fmt.Errorf("recover: %w", err)
	}
	return r, nil
}

// own is this node's address for raft.
func (n *Node) own() string {
	if n.cfg.Address != "" {
		return n.cfg.Address
	}
	return n.cfg.NodeID
}

// openRemains opens a node's files without starting it.
func openRemains(cfg Config) (*Node, error) {
	cfg = cfg.withDefaults()
	n := &Node{cfg: cfg, log: cfg.Logger, fatal: make(chan error, 1), dead: make(chan struct{})}
	err := n.openFiles()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the store in %s: %w", cfg.Dir, err), n.closeFiles())
	}
	return n, nil
}

func (n *Node) openFiles() (err error) {
	if n.cfg.Disk == nil {
		n.cfg.Disk = files{filepath.Join(n.cfg.Dir, "raft"), n.cfg.Ring, n.log}
	}
	if n.logs, err = openLogStore(n.cfg.Disk, n.cfg.Ring, n.fail); err != nil {
		return err
	}
	if err := n.wasRemoved(); err != nil {
		return err
	}
	n.cfg.Machine.Fatal = n.fail
	if n.machine, err = machine.Open(n.cfg.Machine); err != nil {
		return err
	}
	if n.snapshots, err = n.cfg.Disk.OpenSnapshots(); err != nil {
		return err
	}
	return n.checkAge()
}

func (n *Node) recoverConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(n.cfg.NodeID)
	c.Logger = raftLogger(n.log)
	c.NoSnapshotRestoreOnStart = true
	return c
}

func (n *Node) remains() (Remains, error) {
	version, at, _ := n.machine.Head()
	last, err := n.logs.LastIndex()
	if err != nil {
		return Remains{}, fmt.Errorf("read the log: %w", err)
	}
	r := Remains{Applied: version, Last: last, Time: at}
	if last > uint64(version) {
		r.Doubtful = last - uint64(version)
	}
	_, inner := raft.NewInmemTransport("")
	c, err := raft.GetConfiguration(n.recoverConfig(), &recoverer{machine: n.machine}, n.logs, n.logs, n.snapshots, inner)
	if err != nil {
		return r, fmt.Errorf("read who belongs to the cluster: %w", err)
	}
	for _, s := range c.Servers {
		r.Members = append(r.Members, Peer{ID: string(s.ID), Address: string(s.Address)})
	}
	return r, nil
}

// recoverer is the state machine while a cluster is recovered. raft passes over
// what Apply returns, so the first failure is kept and fails the snapshot.
type recoverer struct {
	machine *machine.Machine
	failed  error
}

var _ raft.FSM = (*recoverer)(nil)

// Apply implements raft.FSM.
func (f *recoverer) Apply(l *raft.Log) any {
	if f.failed == nil {
		_, f.failed = f.machine.Apply(l.Index, l.Data)
	}
	return f.failed
}

// Snapshot implements raft.FSM.
func (f *recoverer) Snapshot() (raft.FSMSnapshot, error) {
	if f.failed == nil {
		f.failed = f.machine.Sync()
	}
	if f.failed != nil {
		return nil, f.failed
	}
	return metadata{f.machine.Mark()}, nil
}

// Restore implements raft.FSM. The databases hold what any snapshot does: see
// Node.checkAge.
func (f *recoverer) Restore(r io.ReadCloser) error { return r.Close() }
