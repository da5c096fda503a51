package consensus_test

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store/storetest/crash"
	"github.com/cloister-os/cloister/store/storetest/powercut"
)

// TestPowerCut: a cut at random moments under 64 writers, on a file system that
// forgets what was not synced, loses nothing that was acknowledged and leaves
// nothing by half. Every other cut is lucky: some of what was not synced is
// there. CLOISTER_CUTS sets how often.
func TestPowerCut(t *testing.T) {
	powercut.Need(t)
	rnd := seeded(t)
	acks := 0
	for left := many(t, "CLOISTER_CUTS", 5); left > 0; left -= livesPerStore {
		acks += cutPower(t, rnd, min(left, livesPerStore))
	}
	t.Logf("%d transactions acknowledged", acks)
}

// cutPower cuts the power of one store so often and returns how many
// transactions were acknowledged.
func cutPower(t *testing.T, rnd *rand.Rand, times int) int {
	disk, dir := powercut.New(), t.TempDir()
	m := disk.Mount(t, dir)
	p := crash.NewParent(t, dir+"/store")
	for i := range times {
		delay := time.Duration(50+rnd.IntN(500)) * time.Millisecond
		luck := float64(i%2) * rnd.Float64()
		p.Run(t, delay, i%5 == 4, func(c *os.Process) {
			if i%3 == 2 {
				if err := m.Flush(); err != nil {
					t.Error(err)
				}
			}
			if err := m.Cut(rnd, luck); err != nil {
				t.Error(err)
			}
			c.Kill()
		})
		if err := m.Unmount(); err != nil {
			t.Fatal(err)
		}
		m = disk.Mount(t, dir)
	}
	p.Finish(t)
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
	if p.Acks() == 0 {
		t.Error("nothing was acknowledged, so nothing was proven")
	}
	return p.Acks()
}
