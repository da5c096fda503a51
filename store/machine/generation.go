package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// generation is one pair of databases. Restore builds the next one beside it.
type generation struct {
	dir     string
	number  uint64
	state   *badger.DB
	history *badger.DB
	marks   *marks

	// Guarded by Machine.mu.
	retain retention
	users  int           // open views
	idle   chan struct{} // made when it is retired, closed when users is 0
}

func (g *generation) databases() [2]*badger.DB { return [2]*badger.DB{g.state, g.history} }

func (g *generation) close() error {
	var errs []error
	for _, db := range g.databases() {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if g.marks != nil {
		errs = append(errs, g.marks.close())
	}
	return errors.Join(errs...)
}

// openGeneration opens a generation's databases.
func (m *Machine) openGeneration(n uint64) (*generation, error) {
	g := &generation{number: n, dir: generationDir(m.cfg.Dir, n)}
	var err error
	if g.marks, err = openMarks(filepath.Join(g.dir, "mark")); err != nil {
		return nil, err
	}
	if g.state, err = m.openDatabase(filepath.Join(g.dir, "state"), options.None, g.marks.last.tables[0]); err != nil {
		return nil, errors.Join(err, g.close())
	}
	if g.history, err = m.openDatabase(filepath.Join(g.dir, "history"), options.Snappy, g.marks.last.tables[1]); err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

func generationDir(dir string, gen uint64) string {
	return filepath.Join(dir, "gen-"+strconv.FormatUint(gen, 10))
}

// currentGeneration reads CURRENT, creates the first generation when there is
// none, and removes what an interrupted Restore left.
func currentGeneration(dir string) (uint64, error) {
	if err := MakeDir(dir); err != nil {
		return 0, err
	}
	b, err := os.ReadFile(filepath.Join(dir, "CURRENT"))
	if errors.Is(err, fs.ErrNotExist) {
		// CURRENT is made durable before anything is written beside it, so
		// without it nothing was ever acknowledged.
		if err := removeGenerations(dir, 0); err != nil {
			return 0, err
		}
		return 1, setGeneration(dir, 1)
	}
	if err != nil {
		return 0, fmt.Errorf("read which generation of the data is current: %w", err)
	}
	name := strings.TrimSuffix(string(b), "\n")
	gen, err := strconv.ParseUint(strings.TrimPrefix(name, "gen-"), 10, 64)
	if err != nil || name != "gen-"+strconv.FormatUint(gen, 10) {
		return 0, fmt.Errorf("%s holds %q where gen-N belongs: restore a backup", filepath.Join(dir, "CURRENT"), b)
	}
	if _, err := os.Stat(generationDir(dir, gen)); err != nil {
		return 0, fmt.Errorf("the current generation of the data is missing, restore a backup: %w", err)
	}
	return gen, removeGenerations(dir, gen)
}

// setGeneration makes a generation current, for certain.
func setGeneration(dir string, gen uint64) error {
	if err := MakeDir(generationDir(dir, gen)); err != nil {
		return err
	}
	path := filepath.Join(dir, "CURRENT")
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("make generation %d current: %w", gen, err)
	}
	_, err = fmt.Fprintf(f, "gen-%d\n", gen)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("make generation %d current: %w", gen, err)
	}
	if err := syncDir(dir); err != nil { // the generation's folder itself
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("make generation %d current: %w", gen, err)
	}
	return syncDir(dir)
}

// removeGenerations removes all generations but one.
func removeGenerations(dir string, keep uint64) error {
	all, err := filepath.Glob(filepath.Join(dir, "gen-*"))
	if err != nil {
		return err
	}
	for _, g := range all {
		if g == generationDir(dir, keep) {
			continue
		}
		if err := os.RemoveAll(g); err != nil {
			return fmt.Errorf("remove an old generation of the data: %w", err)
		}
	}
	return nil
}
