package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store/storetest/powercut"
	"github.com/cloister-os/cloister/test/chaos/history"
	"github.com/cloister-os/cloister/test/chaos/network"
)

func TestMain(m *testing.M) {
	network.Enter()
	dir, err := build()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// kvnode is in the environment when there is a kvnode built already.
const kvnode = "CLOISTER_KVNODE"

// build builds the kvnode once for all tests, in a folder that is returned.
func build() (string, error) {
	if os.Getenv(kvnode) != "" {
		return "", nil
	}
	dir, err := os.MkdirTemp("", "kvnode")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "kvnode")
	cmd := exec.Command("go", "build", "-o", binary, "github.com/cloister-os/cloister/test/kvnode")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("build the kvnode: %w\n%s", err, out)
	}
	return dir, os.Setenv(kvnode, binary)
}

// need skips where no network or disk can be made, and returns the kvnode.
func need(t *testing.T) string {
	t.Helper()
	if why := network.Reason(); why != "" {
		t.Skip(why)
	}
	powercut.Need(t)
	return os.Getenv(kvnode)
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

// TestEveryFault meets every kind of fault once.
func TestEveryFault(t *testing.T) {
	t.Parallel()
	binary := need(t)
	var menus [3][]string
	for i, f := range faults() {
		menus[i%3] = append(menus[i%3], f.name)
	}
	for _, menu := range menus {
		t.Run(menu[0], func(t *testing.T) {
			t.Parallel()
			s := seed(t)
			rand.New(rand.NewPCG(s, 5)).Shuffle(len(menu), func(i, j int) { menu[i], menu[j] = menu[j], menu[i] })
			n := Run(t, binary, Plan{Seed: s, Nodes: 3, Clients: 4, Disks: true, Keep: keep(t, s), Menu: menu})
			t.Log(n)
		})
	}
}

// TestMembersComeAndGo replaces nodes again and again between faults that leave others
// behind the log: the second under a name meets what is left of the first.
func TestMembersComeAndGo(t *testing.T) {
	t.Parallel()
	binary, s := need(t), seed(t)
	menu := []string{"split", "membership", "isolate the leader", "membership", "clock", "membership", "membership"}
	t.Log(Run(t, binary, Plan{Seed: s, Nodes: 3, Clients: 4, Disks: true, Keep: keep(t, s), Menu: menu}))
}

// TestSeeds runs as many seeds as the environment says, each with random faults;
// without it, one with few faults on five nodes.
// CLOISTER_CHAOS_MENU names the faults instead, with commas between;
// CLOISTER_CHAOS_NODES is how many nodes, 3 or 5 by the seed when it is not set.
func TestSeeds(t *testing.T) {
	t.Parallel()
	many, _ := strconv.Atoi(os.Getenv("CLOISTER_CHAOS_SEEDS"))
	many = max(many, 1)
	binary, first := need(t), seed(t)
	var mu sync.Mutex // guards the two below
	total, done := map[history.Outcome]int{}, 0
	for s := first; s < first+uint64(many); s++ {
		p := Plan{Seed: s, Nodes: []int{3, 3, 3, 5}[s%4], Clients: 6, Disks: s%8 != 0, Faults: 6, Keep: keep(t, s)}
		if many == 1 {
			p.Nodes, p.Faults, p.Disks = 5, 3, true
		}
		if m := os.Getenv("CLOISTER_CHAOS_MENU"); m != "" {
			p.Menu, p.Disks = strings.Split(m, ","), true
		}
		if n, err := strconv.Atoi(os.Getenv("CLOISTER_CHAOS_NODES")); err == nil {
			p.Nodes = n
		}
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			t.Parallel()
			count := Run(t, binary, p)
			mu.Lock()
			defer mu.Unlock()
			done++
			for o, n := range count {
				total[o] += n
			}
		})
	}
	t.Cleanup(func() { t.Logf("%d seeds from %d: %v", done, first, total) })
}
