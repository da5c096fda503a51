package consensus_test

import (
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store/consensus"
	"github.com/cloister-os/cloister/store/storetest/crash"
)

func TestMain(m *testing.M) {
	crash.Child(openChild)
	os.Exit(m.Run())
}

// openChild opens the store of a life. Most lives have small memtables and move
// the durable mark and cut the log often, so that a death finds these under way.
func openChild(ctx context.Context, dir string, life int) (crash.Store, error) {
	c := consensus.Config{Dir: dir, NodeID: "n1", ReserveBytes: -1, Ring: ringOf(life), Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	c.Machine.MemtableBytes = 2 << 20 // in every life: Badger cannot open a memtable that is larger than its own
	if life%4 != 0 {
		c.SyncEvery, c.SnapshotEntries = 30*time.Millisecond, 50
	}
	return consensus.Open(ctx, c)
}

// ringOf gives every other life a new key. The last look, life 0, has them all.
func ringOf(life int) lifeRing {
	if life == 0 {
		return 1000
	}
	return lifeRing(1 + life/2)
}

// lifeRing is a keyring by its active key.
type lifeRing uint32

func (r lifeRing) Active() (uint32, []byte) { k, _ := r.Key(uint32(r)); return uint32(r), k }

func (r lifeRing) Key(id uint32) ([]byte, bool) {
	k := sha256.Sum256([]byte{byte(id >> 8), byte(id)})
	return k[:], id <= uint32(r)
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
