package machine

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store"
)

// BenchmarkGigabyte measures a machine that holds a gigabyte: how long it takes to
// open, what memory it holds, what a stage costs those who write meanwhile, and a
// restore. CLOISTER_STATE_DIR keeps the state for the next run.
//
//	go test -run '^$' -bench Gigabyte -benchtime 1x -timeout 1h ./store/machine
func BenchmarkGigabyte(b *testing.B) {
	dir := os.Getenv("CLOISTER_STATE_DIR")
	if dir == "" {
		dir = b.TempDir()
	}
	g := &gigabyte{B: b, dir: dir}
	began := time.Now()
	g.open()
	g.say("opened", began)
	began = time.Now()
	g.fill(1 << 30)
	g.say("filled", began)
	if err := g.m.Close(); err != nil {
		b.Fatal(err)
	}
	began = time.Now()
	g.open()
	g.say("opened again", began)
	for range 2 {
		g.write("alone", nil)
		g.write("while it is staged", func(ctx context.Context) error {
			_, err := g.m.Stage(ctx, io.Discard)
			return err
		})
	}
	path := filepath.Join(dir, "stage")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer os.Remove(path)
	began = time.Now()
	v, err := g.m.Stage(b.Context(), f)
	if err != nil {
		b.Fatal(err)
	}
	g.say(fmt.Sprintf("staged at %d", v), began)
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		b.Fatal(err)
	}
	other := &gigabyte{B: b, dir: b.TempDir()}
	other.open()
	began = time.Now()
	if err := other.m.Restore(f, v); err != nil {
		b.Fatal(err)
	}
	other.say("restored", began)
	if err := other.m.Close(); err != nil {
		b.Fatal(err)
	}
	if err := g.m.Close(); err != nil {
		b.Fatal(err)
	}
}

type gigabyte struct {
	*testing.B
	dir string
	m   *Machine
}

func (g *gigabyte) open() {
	var err error
	if g.m, err = Open(Config{Dir: g.dir, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		g.Fatal(err)
	}
}

func (g *gigabyte) say(what string, began time.Time) {
	fmt.Printf("%s: %.2f s, RssAnon %s, %d MB on disk\n", what, time.Since(began).Seconds(), anonymous(), g.m.cur.pair.Bytes()>>20)
}

// fill writes until there is so much.
func (g *gigabyte) fill(bytes int64) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for n := uint64(g.m.Applied()) + 1; g.m.cur.pair.Bytes() < bytes; n++ {
		if _, err := g.m.Apply(n, filler(rnd, n, 200<<10)); err != nil {
			g.Fatal(err)
		}
		if n%100 == 0 {
			if err := g.m.Sync(); err != nil {
				g.Fatal(err)
			}
		}
	}
}

// filler is a group of so many bytes, of values of 256 B and 4 KB in both databases.
func filler(rnd *rand.Rand, n uint64, bytes int) []byte {
	grp := Group{Time: time.Unix(int64(n), 0), Origins: []Origin{{Node: "n1", Boot: 1, Lowest: n * 10000}}}
	for i, size := 0, 0; size < bytes; i++ {
		v := make([]byte, []int{256, 4096}[i%2])
		for j := range v {
			v[j] = byte(rnd.Uint32())
		}
		size += len(v)
		k := store.Key(fmt.Sprintf("%c/fill/%d/%d", "SH"[i/2%2], rnd.Uint32()>>8, i))
		grp.Entries = append(grp.Entries, Entry{Seq: n*10000 + uint64(i), Ops: put1(k, string(v))})
	}
	return grp.AppendTo(nil)
}

// write applies groups for a while, at most so many as to leave the machine some
// room, with something beside it.
func (g *gigabyte) write(what string, beside func(context.Context) error) {
	ctx, cancel := context.WithCancel(g.Context())
	var wg sync.WaitGroup
	staged := 0
	if beside != nil {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := beside(ctx); err == nil {
					staged++
				} else if ctx.Err() == nil {
					g.Error(err)
				}
			}
		})
	}
	rnd := rand.New(rand.NewPCG(2, 2))
	groups := make([][]byte, 64)
	var took []time.Duration
	began := time.Now()
	for time.Since(began) < 4*time.Second {
		at := uint64(g.m.Applied())
		for i := range groups {
			groups[i] = filler(rnd, at+uint64(i)+1, 64<<10)
		}
		for i, data := range groups {
			begin := time.Now()
			if _, err := g.m.Apply(at+uint64(i)+1, data); err != nil {
				g.Fatal(err)
			}
			took = append(took, time.Since(begin))
		}
		if err := g.m.Sync(); err != nil {
			g.Fatal(err)
		}
	}
	cancel()
	wg.Wait()
	sum := time.Duration(0)
	for _, d := range took {
		sum += d
	}
	slices.Sort(took)
	fmt.Printf("%s: a group p50 %v p99 %v, mean %v, %d groups, staged %d times, RssAnon %s\n",
		what, took[len(took)/2], took[len(took)*99/100], sum/time.Duration(len(took)), len(took), staged, anonymous())
}

// anonymous is this process's RssAnon.
func anonymous() string {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "RssAnon:"); ok {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}
