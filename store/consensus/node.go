// Package consensus is the replicated store: raft over store/machine.
//
// It promises what package store promises, on up to seven nodes: whichever takes
// a transaction or a read, and whichever of them dies meanwhile, what was
// acknowledged is kept and nothing is applied twice. The log is the only file that is synced on the way to a reply. A failure
// to write the log, to commit or to sync ends the node (see Node.Fatal): what it
// would say afterwards could not be trusted.
//
// How a transaction travels: it waits in the node's queue (queue.go), gets its
// sequence (origin.go) and joins a group (former.go) or goes to the leader in a
// frame (forward.go); raft replicates the group; and each node's state machine
// decides it, where its caller hears of the outcome.
//
// It may import store, store/machine and store/sealed; it alone imports raft.
package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
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
	// Stabilize is how long a new node must be well before it votes, 3 s when 0.
	Stabilize time.Duration
	// Now is the node's clock, time.Now when nil. Tests set it wrong.
	Now func() time.Time

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
	// TrailingLogs is how many entries stay in the log when it is cut, for nodes
	// that fall behind; 1024 when 0, which is at most 256 MiB of groups. A node
	// that falls behind further gets all of the data.
	TrailingLogs uint64
	// Retention is how long history is kept; for ever when 0.
	Retention time.Duration
	// Ring encrypts what the node keeps on its disk; nil leaves it plain.
	Ring sealed.Ring
	// Machine sizes the databases; its Dir, Logger and Fatal are ignored.
	Machine machine.Config
	// Disk is where the log and raft's snapshots are kept, files in Dir when nil.
	// Simulations give one that forgets, and Machine.Volume beside it.
	Disk Disk
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
	if c.TrailingLogs == 0 {
		c.TrailingLogs = trailingLogs
	}
	if c.Stabilize == 0 {
		c.Stabilize = 3 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
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
	up        atomic.Bool // raft is set; for what raft calls while it starts
	snapshots raft.SnapshotStore
	reserve   *reserve
	transport *transport

	life     uint64 // the number of this start
	mark     uint64 // drawn for it
	origin   *origin
	former   *former
	helm     *helm
	mesh     *mesh
	known    *known
	learner  *learner
	progress progress
	visitors visitors
	census   census
	clock    *clock
	pace     pace
	chains   chains
	rested   time.Time // when this node last tried to hand leadership over; of inquire
	asks     rounds    // of reads while this node follows
	confirms rounds    // of reads while it leads

	nudging    atomic.Bool  // an empty group is being proposed
	installing atomic.Int32 // transfers of the data to members, which hold the log's tail

	readying lock          // one becomes ready at a time
	ready    chan struct{} // closed when everything acknowledged before is visible
	fatal    chan error    // one error at most
	dead     chan struct{} // closed by the first failure, or by Close
	stop     sync.Once     // closes dead
	shut     sync.Once
	turn     lock // held by an Update that lost several times
	tasks    sync.WaitGroup
	cause    error // why it is dead; set before dead is closed
	// end shuts raft down. Only raft's first answer waits for its end and closes
	// the transport.
	end func() raft.Future
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
		readying: newLock(), turn: newLock(), ready: make(chan struct{}), fatal: make(chan error, 1), dead: make(chan struct{}),
		reserve: newReserve(cfg), learner: newLearner(), clock: newClock(cfg.Now),
	}
	n.helm, n.mesh = newHelm(n), newMesh(n)
	n.asks.start, n.confirms.start = n.ask, n.confirm
	if err := n.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the store in %s: %w", cfg.Dir, err), n.closeFiles())
	}
	n.start()
	return n, nil
}

// start sets the node's tasks going.
func (n *Node) start() {
	n.former.start()
	n.tasks.Go(n.helm.run)
	n.tasks.Go(n.sync)
	n.tasks.Go(n.retain)
	n.tasks.Go(func() {
		<-n.dead
		n.former.close()
		n.mesh.close()
		if n.cause != nil { // nothing comes home any more, and raft must not try again
			n.end()
			n.origin.end(n.cause)
		}
	})
	if n.cfg.Peers != nil {
		n.mesh.follow(n.servers())
		n.tasks.Go(n.serve)
		n.tasks.Go(n.inquire)
		n.tasks.Go(n.steer)
		n.tasks.Go(func() { n.learner.run(n) })
	}
}

func (n *Node) open() (err error) {
	dir := filepath.Join(n.cfg.Dir, "raft")
	if n.cfg.Disk == nil {
		n.cfg.Disk = files{dir, n.cfg.Ring, n.log}
	}
	if n.logs, err = openLogStore(n.cfg.Disk, n.cfg.Ring, n.fail); err != nil {
		return err
	}
	if err := n.wasRemoved(); err != nil {
		return err
	}
	if n.known, err = openKnown(n.logs); err != nil {
		return err
	}
	n.cfg.Machine.Fatal = n.fail
	if n.machine, err = machine.Open(n.cfg.Machine); err != nil {
		return err
	}
	if n.snapshots, err = n.cfg.Disk.OpenSnapshots(); err != nil {
		return err
	}
	if err := n.checkAge(); err != nil {
		return err
	}
	if err := n.clean(); err != nil {
		return err
	}
	if err := n.recall(); err != nil {
		return err
	}
	// A life's number is its start in ms unless the clock went back, so that no
	// two are equal even when the folder is a copy of an older one.
	if n.known.start.Boot, err = n.logs.GetUint64(bootKey); err != nil {
		return fmt.Errorf("read the count of starts: %w", err)
	}
	boot, err := n.logs.nextBoot(max(n.machine.Boot(n.cfg.NodeID), uint64(max(n.cfg.Now().UnixMilli(), 0))))
	if err != nil {
		return err
	}
	n.origin, n.former = newOrigin(boot), newFormer(n)
	n.progress.set(uint64(n.machine.Applied()))
	n.life, n.mark = boot, 1+rand.Uint64()>>1
	if err := n.known.born(boot); err != nil {
		return err
	}
	n.known.start.Birth = n.known.birth
	if n.raft, err = n.startRaft(); err != nil {
		return err
	}
	n.transport.begin()
	n.up.Store(true)
	return nil
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
		held, data, err := readMetadata(r)
		if err != nil {
			return fmt.Errorf("read the snapshot at %d: %w", snaps[0].Index, err)
		}
		if held == 0 {
			return n.install(data, snaps[0].Index)
		}
		if uint64(held) > applied {
			return fmt.Errorf("the databases are at %d but the log was cut at %d, so they are from an older copy: restore a backup",
				applied, snaps[0].Index)
		}
		applied = snaps[0].Index // what lies between are no groups
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

// Close hands leadership over when there is another voter, stops taking
// transactions, ends those under way, makes the databases
// durable and closes all files. Those waiting get store.ErrClosed when they had
// not entered the log and store.ErrUnknown when they had.
func (n *Node) Close() error {
	var err error
	n.shut.Do(func() {
		n.resign()
		n.stop.Do(func() { close(n.dead) })
		n.former.close()
		if n.cause == nil {
			n.cut() // so that the next start has nothing to read
		} else {
			n.machine.Abandon() // what failed once may never let itself be closed
		}
		err = n.end().Error()
		n.origin.end(n.closed())
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
	default:
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-n.ready:
		return nil
	case <-n.dead:
		return n.closed()
	case <-late.C:
		if err := n.Healthy(ctx); err != nil {
			return err
		}
		return fmt.Errorf("%w: this node is not ready yet", store.ErrBusy)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// resign hands leadership over, for a node that ends.
func (n *Node) resign() {
	if others, _ := n.voters(); len(others) == 0 || !n.helm.leading() || n.cause != nil {
		return
	}
	if err := n.transfer(""); err != nil {
		n.log.Warn("leadership was not handed over", "error", err)
	}
}

// maxHeldBytes bounds the log that is kept for members that get the data.
const maxHeldBytes = 2 << 30

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
			if n.reserve.floor(true) != nil {
				continue // the mark itself needs a few bytes; until there are some, the log keeps what it covers
			}
			if err := n.machine.Sync(); err != nil {
				n.fail(err)
				return
			}
			mark, bytes := n.machine.Mark(), n.machine.Bytes()
			if n.installing.Load() > 0 && bytes-cutBytes < maxHeldBytes {
				continue // raft sends the log's tail after the data
			}
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
