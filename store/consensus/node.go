// Package consensus is the replicated store: raft over store/machine.
//
// It promises what package store promises, on one node now and in a form that
// more nodes can join: every change goes through the raft log from the first
// day. The log is the only file that is synced on the way to a reply. A failure
// to write the log, to commit or to sync ends the node (see Node.Fatal): what it
// would say afterwards could not be trusted.
//
// It may import store and store/machine; it alone imports raft.
package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine"
	"github.com/cloister-os/cloister/store/sealed"
)

var _ store.Store = (*Node)(nil)

// Config says where a node keeps its data and how much it may use.
type Config struct {
	Dir    string       // created when missing; one process may use it at a time
	NodeID string       // the node's name in the cluster, for ever
	Logger *slog.Logger // slog.Default when nil

	// Peers is the road to the other nodes; nil = a node alone, for ever or until
	// it is opened again with one.
	Peers Peers
	// Address is this node's own, as the others dial it. It goes with Peers.
	Address string
	// Found says what a node with a new folder and Peers does: found a cluster of
	// one, or wait to be added to one (false). A node without Peers founds.
	Found bool
	// Program is the version of the program, for Members.
	Program string

	// ReserveBytes is the free space of Dir's disk below which Apply answers
	// store.ErrReadOnly; 256 MiB when 0, none when negative.
	ReserveBytes int64
	// QueueBytes bounds what waits to enter a group, for each class; 16 MiB
	// when 0. A full queue answers store.ErrBusy.
	QueueBytes int
	// SyncEvery and SyncBytes say how often the databases are synced and the
	// durable mark is moved: 1 s and 64 MiB when 0. They bound the replay at
	// start, not what is safe: everything acknowledged is in the log.
	SyncEvery time.Duration
	SyncBytes int64
	// SnapshotEntries and SnapshotBytes say after how much the log is cut, never
	// above the durable mark: 8192 and 32 MiB when 0. What lies above the cut is
	// read at start.
	SnapshotEntries uint64
	SnapshotBytes   int64
	// Retention is how long history is kept; for ever when 0.
	Retention time.Duration
	// Ring encrypts what the node keeps on its disk; nil leaves it plain.
	Ring sealed.Ring
	// Machine sizes the databases; its Dir, Logger and Fatal are ignored.
	Machine machine.Config
	// FreeBytes tells the free space of a disk, statfs when nil. Tests fill
	// disks with it.
	FreeBytes func(dir string) (int64, error)
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.ReserveBytes == 0 {
		c.ReserveBytes = 256 << 20
	}
	if c.QueueBytes == 0 {
		c.QueueBytes = 16 << 20
	}
	if c.SyncEvery == 0 {
		c.SyncEvery = time.Second
	}
	if c.SyncBytes == 0 {
		c.SyncBytes = 64 << 20
	}
	if c.SnapshotEntries == 0 {
		c.SnapshotEntries = 8192
	}
	if c.SnapshotBytes == 0 {
		c.SnapshotBytes = 32 << 20
	}
	if c.FreeBytes == nil {
		c.FreeBytes = freeBytes
	}
	c.Machine.Dir, c.Machine.Logger, c.Machine.Ring = c.Dir, c.Logger, c.Ring
	return c
}

// Node is one node of the store.
type Node struct {
	cfg       Config
	log       *slog.Logger
	machine   *machine.Machine
	logs      *logStore
	raft      *raft.Raft
	snapshots raft.SnapshotStore
	reserve   *reserve
	former    *former

	ready chan struct{} // closed when everything acknowledged before is visible
	fatal chan error    // one error at most
	dead  chan struct{} // closed by the first failure, or by Close
	stop  sync.Once     // closes dead
	shut  sync.Once
	turn  sync.Mutex // held by an Update that lost several times
	tasks sync.WaitGroup
	cause error // why it is dead; set before dead is closed
}

// Open opens the store in cfg.Dir, creating a cluster of one when the folder is
// new. It returns before the log is replayed: until Ready, reads and writes wait.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	cfg = cfg.withDefaults()
	if cfg.Dir == "" || cfg.NodeID == "" {
		return nil, fmt.Errorf("%w: a store needs a folder and a node's name", store.ErrInvalid)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, log: cfg.Logger,
		ready: make(chan struct{}), fatal: make(chan error, 1), dead: make(chan struct{}),
		reserve: newReserve(cfg),
	}
	if err := n.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the store in %s: %w", cfg.Dir, err), n.closeFiles())
	}
	n.tasks.Go(n.lead)
	n.tasks.Go(n.sync)
	n.tasks.Go(n.retain)
	n.tasks.Go(func() { <-n.dead; n.former.close() })
	return n, nil
}

func (n *Node) open() (err error) {
	dir := filepath.Join(n.cfg.Dir, "raft")
	if n.logs, err = openLogStore(dir, n.cfg.Ring, n.log, n.fail); err != nil {
		return err
	}
	n.cfg.Machine.Fatal = n.fail
	if n.machine, err = machine.Open(n.cfg.Machine); err != nil {
		return err
	}
	if n.snapshots, err = openSnapshots(dir, n.cfg.Ring, n.log); err != nil {
		return err
	}
	if err := n.checkAge(); err != nil {
		return err
	}
	boot, err := n.logs.nextBoot(n.machine.Boot(n.cfg.NodeID))
	if err != nil {
		return err
	}
	n.former = newFormer(n, boot)
	n.raft, err = n.startRaft()
	return err
}

// checkAge compares the databases with the log and its newest snapshot. A
// snapshot that carries data newer than the databases is restored (its transfer
// ended, the restore after it did not); databases that are older than anything
// that could bring them up to date are refused.
func (n *Node) checkAge() error {
	applied := uint64(n.machine.Applied())
	first, err := n.logs.FirstIndex()
	if err != nil {
		return err
	}
	snaps, err := n.snapshots.List()
	if err != nil {
		return fmt.Errorf("list the snapshots: %w", err)
	}
	if len(snaps) > 0 && snaps[0].Index > applied {
		_, r, err := n.snapshots.Open(snaps[0].ID)
		if err != nil {
			return fmt.Errorf("open the snapshot at %d: %w", snaps[0].Index, err)
		}
		defer r.Close()
		err = n.machine.Restore(r, store.Version(snaps[0].Index))
		if errors.Is(err, machine.ErrNoData) {
			return fmt.Errorf("the databases are at %d but the log was cut at %d, so they are from an older copy: restore a backup",
				applied, snaps[0].Index)
		}
		return err
	}
	if first > applied+1 {
		return fmt.Errorf("the databases are at %d but the log begins at %d, so they are from an older copy: restore a backup",
			applied, first)
	}
	return nil
}

// Ready is closed when everything that was acknowledged before the start is
// visible and the node can take transactions.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Fatal delivers the error after which the process must end: the log could not
// be written, or a database not committed or synced. Nothing is applied any more.
func (n *Node) Fatal() <-chan error { return n.fatal }

// fail is called once something is wrong that no retry can mend.
func (n *Node) fail(err error) {
	n.stop.Do(func() {
		n.cause = err
		n.fatal <- fmt.Errorf("the store stopped, end this process and look at its disk: %w", err)
		close(n.dead)
	})
}

// closed is what callers get once the node is dead.
func (n *Node) closed() error {
	if n.cause != nil {
		return fmt.Errorf("%w: %w", store.ErrClosed, n.cause)
	}
	return store.ErrClosed
}

// Close stops taking transactions, ends those under way, makes the databases
// durable and closes all files. Those waiting get store.ErrClosed when they had
// not entered the log and store.ErrUnknown when they had.
func (n *Node) Close() error {
	var err error
	n.shut.Do(func() {
		n.stop.Do(func() { close(n.dead) })
		n.former.close()
		if n.cause == nil {
			n.cut() // so that the next start has nothing to read
		} else {
			n.machine.Abandon() // what failed once may never let itself be closed
		}
		err = n.raft.Shutdown().Error()
		n.tasks.Wait()
		n.former.tasks.Wait()
		err = errors.Join(err, n.closeFiles())
	})
	return err
}

func (n *Node) closeFiles() error {
	var errs []error
	if n.machine != nil {
		errs = append(errs, n.machine.Close())
	}
	if n.logs != nil {
		errs = append(errs, n.logs.Close())
	}
	return errors.Join(errs...)
}

// waitReady returns when the node may be read and written.
func (n *Node) waitReady(ctx context.Context) error {
	select {
	case <-n.dead:
		return n.closed()
	default:
	}
	select {
	case <-n.ready:
		return nil
	case <-n.dead:
		return n.closed()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lead waits to lead and then applies an empty group. When it is applied, so is
// everything in the log before it.
func (n *Node) lead() {
	for {
		select {
		case <-n.dead:
			return
		case leads := <-n.raft.LeaderCh():
			if !leads {
				continue
			}
			if err := n.settle(); err != nil {
				n.log.Warn("could not take the lead", "error", err)
				continue
			}
			n.former.start()
			select {
			case <-n.ready:
			default:
				close(n.ready)
			}
		}
	}
}

func (n *Node) settle() error {
	g := machine.Group{Time: time.Now()}
	f := n.raft.Apply(g.AppendTo(nil), 0)
	if err := f.Error(); err != nil {
		return err
	}
	if err, failed := f.Response().(error); failed {
		return err
	}
	return n.raft.ReloadConfig(joinable)
}

// sync moves the durable mark once in a while and cuts the log behind it.
func (n *Node) sync() {
	tick := time.NewTicker(min(n.cfg.SyncEvery, 100*time.Millisecond))
	defer tick.Stop()
	last, cut, cutBytes := time.Now(), n.machine.Mark(), n.machine.Bytes()
	for {
		select {
		case <-n.dead:
			return
		case now := <-tick.C:
			if now.Sub(last) < n.cfg.SyncEvery && n.machine.Unsynced() < n.cfg.SyncBytes {
				continue
			}
			last = now
			n.reserve.look()
			if err := n.machine.Sync(); err != nil {
				n.fail(err)
				return
			}
			mark, bytes := n.machine.Mark(), n.machine.Bytes()
			if mark-cut >= store.Version(n.cfg.SnapshotEntries) || bytes-cutBytes >= n.cfg.SnapshotBytes {
				n.cut()
				cut, cutBytes = mark, bytes
			}
		}
	}
}

// cut has raft take a metadata snapshot, which moves the durable mark to it, and
// cut the log below.
func (n *Node) cut() {
	err := n.raft.Snapshot().Error()
	if err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		n.log.Warn("the log could not be cut", "error", err)
	}
}
