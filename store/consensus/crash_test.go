package consensus_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/store/consensus"
	"github.com/cloister-os/cloister/store/storetest/crash"
)

func TestMain(m *testing.M) {
	crash.Child(openChild)
	os.Exit(m.Run())
}

// openChild opens the store of a life. Most lives have small memtables and move
// the durable mark and cut the log often, and every other one changes its data key
// all the time, so that a death finds these under way.
func openChild(ctx context.Context, dir string, life int) (crash.Store, error) {
	ring, err := keyring(dir)
	if err != nil {
		return nil, err
	}
	c := consensus.Config{Dir: dir, NodeID: "n1", ReserveBytes: -1, Ring: ring, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	c.Machine.MemtableBytes = 2 << 20 // in every life: Badger cannot open a memtable that is larger than its own
	if life%4 != 0 {
		c.SyncEvery, c.SnapshotEntries = 30*time.Millisecond, 50
	}
	n, err := consensus.Open(ctx, c)
	if err != nil || life%2 == 0 {
		return n, err
	}
	return rotate(n, ring), nil
}

// rotated is a store whose data key changes all the time.
type rotated struct {
	*consensus.Node
	stop func()
}

// rotate changes the key again and again, and drops each that nothing needs.
func rotate(n *consensus.Node, ring *seal.Keyring) *rotated {
	ctx, cancel := context.WithCancel(context.Background())
	r := seal.NewRotation(ring, slog.New(slog.DiscardHandler), seal.Named{Name: "the store", Holder: n})
	var tasks sync.WaitGroup
	tasks.Go(func() { r.Run(ctx) })
	tasks.Go(func() {
		for ctx.Err() == nil {
			r.Start() // or one is under way
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return &rotated{n, func() { cancel(); tasks.Wait() }}
}

// Close implements crash.Store.
func (r *rotated) Close() error {
	r.stop()
	return r.Node.Close()
}

// keyring is the store's, in a folder beside it.
func keyring(dir string) (*seal.Keyring, error) {
	keys, err := seal.Open(filepath.Join(filepath.Dir(dir), "seal"))
	if err != nil {
		return nil, err
	}
	_, err = os.Stat(filepath.Join(dir, "raft"))
	return keys.Keyring("n1", errors.Is(err, os.ErrNotExist))
}

// many is how often a test repeats its fault: the environment's word, or few.
func many(t *testing.T, env string, few int) int {
	s := os.Getenv(env)
	if s == "" {
		return few
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s=%s is not a number", env, s)
	}
	return n
}

// seeded returns a source of randomness whose seed is in the test's log.
func seeded(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("CLOISTER_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("CLOISTER_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// livesPerStore is after how many deaths a test begins with an empty store, so
// that checking everything after each does not take ever longer.
const livesPerStore = 20

// TestKill: SIGKILL at random moments under 64 writers loses nothing that was
// acknowledged and leaves nothing by half. CLOISTER_KILLS sets how often.
func TestKill(t *testing.T) {
	rnd := seeded(t)
	acks := 0
	for left := many(t, "CLOISTER_KILLS", 10); left > 0; left -= livesPerStore {
		p := crash.NewParent(t, t.TempDir())
		for i := range min(left, livesPerStore) {
			delay := time.Duration(rnd.IntN(400)) * time.Millisecond
			p.Run(t, delay, i%5 == 4, func(c *os.Process) { c.Kill() })
		}
		p.Finish(t)
		if p.Acks() == 0 {
			t.Error("nothing was acknowledged, so nothing was proven")
		}
		acks += p.Acks()
	}
	t.Logf("%d transactions acknowledged", acks)
}
