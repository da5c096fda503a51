package files_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect/connecttest"
	"github.com/cloister-os/cloister/graph/connect/transport/files"
	"github.com/cloister-os/cloister/store/storetest"
)

// A folder that changes while syncs of it are cut off anywhere ends, after one
// whole sync, as a fresh reading of it does.
func TestInterruptedSyncsEndWhereAFreshOneDoes(t *testing.T) {
	for range 4 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			dice := rand.New(rand.NewPCG(seed, 1))
			dir := t.TempDir()
			write(t, dir, "keep.md", "always here")
			st := storetest.NewModel(nil)
			cuts := rand.New(rand.NewPCG(seed, 2)) // drawn from by the sync, dice by the test
			gappy := &connecttest.Gappy{Store: st, Fail: func(int) bool { return cuts.IntN(3) == 0 }}
			b := connecttest.Open(t, gappy, files.New())
			if _, err := b.Service.Add(t.Context(), guardtest.Admin(), graph.Source{Name: "docs", Kind: "files", Path: dir}); err != nil {
				t.Fatal(err)
			}
			for round := range 5 {
				for serial := range 60 {
					name := fmt.Sprintf("d%d/f%d.md", dice.IntN(3), dice.IntN(60))
					if dice.IntN(4) == 0 {
						_ = os.Remove(filepath.Join(dir, name)) // it may not be there
						continue
					}
					write(t, dir, name, fmt.Sprintf("# Title %d.%d\n\n%s\n", round, serial, strings.Repeat("Some words. ", dice.IntN(20)*dice.IntN(20)*dice.IntN(20))))
				}
				b.Try("docs")
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			again := connecttest.OpenOver(t, st, b.Blobs, files.New())
			again.Sync("docs")
			fresh := connecttest.Open(t, nil, files.New())
			fresh.Add("files", "docs", dir)
			connecttest.Same(t, again.Graph(true), fresh.Graph(true))
			if p := again.Sync("docs"); p.Bodies != 0 || p.Claims != 0 {
				t.Errorf("after that: %+v", p)
			}
		})
	}
}
