package machine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4/table"
)

// withTables returns the folder of a closed machine whose history has tables.
func withTables(t *testing.T) (dir string, tables []string) {
	dir = t.TempDir()
	for i := range uint64(2) { // each close makes a table; the second start vouches for the first
		m := testMachine(t, dir)
		apply(t, m, i+1, group(i+1, 1, Entry{Seq: 1, Ops: put1("H/k", "v")}))
		if err := m.Close(); err != nil {
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
	_, err := Open(Config{Dir: dir})
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
	m := testMachine(t, dir)
	for _, info := range m.cur.history.Tables() {
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
	testMachine(t, dir)
}
