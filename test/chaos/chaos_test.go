package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store/storetest/powercut"
	"github.com/cloister-os/cloister/test/chaos/history"
	"github.com/cloister-os/cloister/test/chaos/network"
)

func TestMain(m *testing.M) {
	network.Enter()
	os.Exit(m.Run())
}

// need skips where no network or disk can be made, and returns the kvnode.
func need(t *testing.T) string {
	t.Helper()
	if why := network.Reason(); why != "" {
		t.Skip(why)
	}
	powercut.Need(t)
	if b := os.Getenv("CLOISTER_KVNODE"); b != "" {
		return b
	}
	binary := filepath.Join(t.TempDir(), "kvnode")
	cmd := exec.Command("go", "build", "-o", binary, "github.com/cloister-os/cloister/test/kvnode")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the kvnode: %v\n%s", err, out)
	}
	return binary
}

// seed is the environment's or a new one.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := uint64(time.Now().UnixNano())
	if e := os.Getenv("CLOISTER_SEED"); e != "" {
		var err error
		if s, err = strconv.ParseUint(e, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("CLOISTER_SEED=%d", s)
	return s
}

func keep(t *testing.T, seed uint64) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("../../build/chaos", fmt.Sprint(seed)))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestSeeds runs as many seeds as the environment says, each with random faults.
// CLOISTER_CHAOS_MENU names the faults instead, with commas between;
// CLOISTER_CHAOS_NODES is how many nodes, 3 or 5 by the seed when it is not set.
func TestSeeds(t *testing.T) {
	many, _ := strconv.Atoi(os.Getenv("CLOISTER_CHAOS_SEEDS"))
	if many == 0 {
		many = 1
	}
	binary, first := need(t), seed(t)
	total := map[history.Outcome]int{}
	for s := first; s < first+uint64(many); s++ {
		nodes := []int{3, 3, 3, 5}[s%4]
		if n, err := strconv.Atoi(os.Getenv("CLOISTER_CHAOS_NODES")); err == nil {
			nodes = n
		}
		p := Plan{Seed: s, Nodes: nodes, Clients: 6, Disks: s%8 != 0, Faults: 6, Keep: keep(t, s)}
		if m := os.Getenv("CLOISTER_CHAOS_MENU"); m != "" {
			p.Menu, p.Disks = strings.Split(m, ","), true
		}
		if many == 1 {
			p.Faults = 2
		}
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			for o, n := range Run(t, binary, p) {
				total[o] += n
			}
		})
	}
	t.Logf("%d seeds from %d: %v", many, first, total)
}
