package blob_test

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/storetest/powercut"
)

// What was acknowledged survives a power cut whole, and what was not is there
// whole or not at all.
func TestPowerCuts(t *testing.T) {
	powercut.Need(t)
	seed := rand.Uint64()
	t.Log("seed", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	disk, dir := powercut.New(), t.TempDir()
	acknowledged := map[blob.Hash]int{}
	for range 12 {
		mounted := disk.Mount(t, dir)
		s, err := blob.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		check(t, s, acknowledged)
		kept := putUntilCut(t, s, dice, func() {
			if err := mounted.Cut(rand.New(rand.NewPCG(dice.Uint64(), 1)), dice.Float64()); err != nil {
				t.Error(err)
			}
		})
		for h, n := range kept {
			acknowledged[h] = n
		}
		mounted.Unmount()
	}
	if len(acknowledged) == 0 {
		t.Error("nothing was ever acknowledged")
	}
}

// putUntilCut stores blobs from several writers, cuts the power after a few of
// them, and returns those that were acknowledged.
func putUntilCut(t *testing.T, s *blob.Store, dice *rand.Rand, cut func()) map[blob.Hash]int {
	var (
		mu    sync.Mutex
		kept  = map[blob.Hash]int{}
		wg    sync.WaitGroup
		count atomic.Int64
		dead  atomic.Bool
		limit = dice.Int64N(60)
	)
	for range 4 {
		own := rand.New(rand.NewPCG(dice.Uint64(), 2))
		wg.Go(func() {
			for {
				text := bytes.Repeat([]byte{byte(own.Uint32())}, own.IntN(20_000))
				h, _, err := s.Put(t.Context(), bytes.NewReader(text))
				if err != nil {
					if !dead.Load() {
						t.Errorf("before the cut: %v", err)
					}
					count.Add(1 << 32)
					return
				}
				mu.Lock()
				kept[h] = len(text)
				mu.Unlock()
				count.Add(1)
			}
		})
	}
	for count.Load() < limit {
		runtime.Gosched()
	}
	dead.Store(true)
	cut()
	wg.Wait()
	return kept
}

func check(t *testing.T, s *blob.Store, acknowledged map[blob.Hash]int) {
	t.Helper()
	for h, n := range acknowledged {
		b, err := s.Read(h, 1<<20)
		if err != nil || len(b) != n || blob.Hash(sha256.Sum256(b)) != h {
			t.Errorf("acknowledged blob %s of %d bytes: %d bytes, %v", h, n, len(b), err)
		}
	}
	for info, err := range s.List() {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(info.Hash, 1<<20); err != nil {
			t.Errorf("half a blob: %v", err)
		}
	}
}
