// Package sim runs the real state machine, and the real replication over it, on
// disks and networks in memory that fail as a seed says, and checks what is left
// against storetest.Model.
//
// There are two levels. Machines runs state machines over one log: one goroutine
// decides everything, so a seed repeats exactly. Cluster runs whole nodes of
// store/consensus with hashicorp/raft inside, in the virtual time of
// testing/synctest: a seed fixes faults, inputs and their times, while the order
// of goroutines that could run at one moment stays the scheduler's. Either way a
// failure names its seed and keeps its whole history in a file.
//
// It may import store and its parts, and only tests may import it.
package sim

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Run is one seed's run.
type Run struct {
	Seed uint64
	Rand *rand.Rand // for the one goroutine that decides

	began   time.Time // in the bubble's time
	mu      sync.Mutex
	history strings.Builder
	failed  string
}

// stop ends a run by panicking with it.
type stop struct{}

// Logf adds a line to the history.
func (r *Run) Logf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(&r.history, "%9.3f ", time.Since(r.began).Seconds())
	fmt.Fprintf(&r.history, format, args...)
	r.history.WriteByte('\n')
}

// Failf notes a failure; the first counts.
func (r *Run) Failf(format string, args ...any) {
	r.Logf("FAILED: "+format, args...)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == "" {
		r.failed = fmt.Sprintf(format, args...)
	}
}

// Fatalf is Failf and ends the run. Only the goroutine that runs the seed calls it.
func (r *Run) Fatalf(format string, args ...any) {
	r.Failf(format, args...)
	panic(stop{})
}

// must ends the run on an error.
func (r *Run) must(err error, doing string) {
	if err != nil {
		r.Fatalf("%s: %v", doing, err)
	}
}

// Seeds runs f once for each seed, each in a bubble of virtual time, as many at a
// time as there are processors: seeds 1 to few, or to CLOISTER_SEEDS, or the one
// of CLOISTER_SEED.
func Seeds(t *testing.T, few int, f func(*Run)) {
	first, last := uint64(1), uint64(few)
	if n, ok := number(t, "CLOISTER_SEEDS"); ok {
		last = n
	}
	if n, ok := number(t, "CLOISTER_SEED"); ok {
		first, last = n, n
	}
	began := time.Now()
	var next atomic.Uint64
	next.Store(first)
	var failures atomic.Int32
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for failures.Load() < 5 {
				seed := next.Add(1) - 1
				if seed > last {
					return
				}
				if !one(t, seed, f) {
					failures.Add(1)
				}
			}
		})
	}
	workers.Wait()
	ran := min(next.Load()-1, last) - first + 1
	t.Logf("%d seeds, %.0f a minute", ran, float64(ran)/time.Since(began).Minutes())
}

func number(t *testing.T, env string) (uint64, bool) {
	s := os.Getenv(env)
	if s == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s is not a number", env, s)
	}
	return n, true
}

// one runs a seed and reports whether it passed.
func one(t *testing.T, seed uint64, f func(*Run)) bool {
	r := &Run{Seed: seed, Rand: rand.New(rand.NewPCG(seed, 7))}
	bubble(t, r, func() {
		r.began = time.Now()
		defer func() {
			switch p := recover().(type) {
			case nil, stop:
			default:
				buf := make([]byte, 16<<10)
				r.Failf("panic: %v\n%s", p, buf[:runtime.Stack(buf, false)])
			}
		}()
		f(r)
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == "" {
		return true
	}
	t.Errorf("seed %d: %s\nrepeat: CLOISTER_SEED=%d go test -run '^%s$' ./store/storetest/sim\nhistory: %s",
		seed, r.failed, seed, t.Name(), keep(t, seed, r.history.String()))
	return false
}

// bubble runs f in virtual time. It panics when nothing in it can go on, or when
// something of it is left at its end.
func bubble(t *testing.T, r *Run, f func()) {
	defer func() {
		if p := recover(); p != nil {
			buf := make([]byte, 1<<20)
			r.Failf("%v", p)
			r.Logf("%s", buf[:runtime.Stack(buf, true)])
		}
	}()
	synctest.Test(t, func(*testing.T) {
		defer time.AfterFunc(forEver, func() {
			buf := make([]byte, 4<<20)
			r.Logf("%s", buf[:runtime.Stack(buf, true)])
			fmt.Fprintf(os.Stderr, "seed %d of %s goes on for ever; history: %s\n", r.Seed, t.Name(), keep(t, r.Seed, r.history.String()))
			os.Exit(1) // what hangs cannot be ended
		}).Stop()
		f()
	})
}

// forEver is longer than any run takes in virtual time.
const forEver = 30 * time.Minute

// keep writes a history to CLOISTER_ARTIFACTS, or to a folder of its own.
func keep(t *testing.T, seed uint64, history string) string {
	dir := os.Getenv("CLOISTER_ARTIFACTS")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "cloister-artifacts")
	}
	path := filepath.Join(dir, fmt.Sprintf("%s-%d.txt", t.Name(), seed))
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = os.WriteFile(path, []byte(history), 0o600)
	}
	if err != nil {
		return err.Error()
	}
	return path
}
