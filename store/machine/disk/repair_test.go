package disk

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4/table"

	"github.com/cloister-os/cloister/store/machine/kv"
)

func testVolume(dir string) *Volume {
	return New(Config{Dir: dir, MemtableBytes: 2 << 20, Logger: slog.New(slog.DiscardHandler), Failed: func(error) {}})
}

func testPair(t *testing.T, dir string) *pair {
	t.Helper()
	p, err := testVolume(dir).Open(1)
	if err != nil {
		t.Fatal(err)
	}
	return p.(*pair)
}

// withTables returns the folder of a closed pair whose history has tables.
func withTables(t *testing.T) (dir string, tables []string) {
	dir = t.TempDir()
	for i := range uint64(2) { // each close makes a table; the second start vouches for the first
		p := testPair(t, dir)
		w := []kv.Write{{Key: []byte("k"), Value: []byte("v")}}
		if err := p.Commit(i+1, [2][]kv.Write{w, w}); err != nil {
			t.Fatal(err)
		}
		if err := p.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := p.SetMark(kv.Mark{Index: i + 1}); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	tables, err := filepath.Glob(filepath.Join(dir, "gen-1", "history", "*.sst"))
	if err != nil || len(tables) < 2 {
		t.Fatalf("tables %v, %v", tables, err)
	}
	return dir, tables
}

func TestAMissingTableThatTheMarkVouchesForIsRefused(t *testing.T) {
	dir, tables := withTables(t)
	if err := os.Remove(tables[0]); err != nil {
		t.Fatal(err)
	}
	_, err := testVolume(dir).Open(1)
	if err == nil || !strings.Contains(err.Error(), "restore a backup") {
		t.Errorf("got %v", err)
	}
}

// A table that is newer than the mark was made from a memtable that is still
// there after a power cut, or from groups that the log's replay brings.
func TestATableNewerThanTheMarkIsForgotten(t *testing.T) {
	dir, tables := withTables(t)
	newest := tables[len(tables)-1]
	if err := os.Remove(newest); err != nil {
		t.Fatal(err)
	}
	p := testPair(t, dir)
	defer p.Close()
	for _, info := range p.dbs[kv.History].Tables() {
		if table.NewFilename(info.ID, filepath.Dir(newest)) == newest {
			t.Error("it is still in the manifest")
		}
	}
}

func TestEmptyFilesOfAPowerCutAreRemoved(t *testing.T) {
	dir, _ := withTables(t)
	for _, name := range []string{"00099.mem", "000099.vlog"} {
		if err := os.WriteFile(filepath.Join(dir, "gen-1", "state", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := testPair(t, dir).Close(); err != nil {
		t.Error(err)
	}
}
