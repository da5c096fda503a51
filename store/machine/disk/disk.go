// Package disk is store/machine/kv over Badger and real files.
//
// It promises what kv asks, and that a folder which a power cut left with files
// that Badger would not open is mended, as far as the durable mark does not vouch
// for what is missing; where it does, opening is refused with a sentence.
//
// It may import store/machine/kv and store/sealed and, of Cloister, nothing else;
// it alone imports Badger.
package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cloister-os/cloister/store/machine/kv"
	"github.com/cloister-os/cloister/store/sealed"
)

// Config says where a volume lies and how large its databases' memory is.
type Config struct {
	Dir           string // holds CURRENT and gen-N; created when missing
	MemtableBytes int64  // of each database; a Badger transaction may take 15 % of it
	Logger        *slog.Logger
	Ring          sealed.Ring // encrypts the databases; nil leaves them plain
	// Failed is called when a database fails in the background, where no caller
	// waits for an error. Closing it would then wait for ever.
	Failed func(error)
}

var _ kv.Volume = (*Volume)(nil)

// Volume is a folder.
type Volume struct{ cfg Config }

// New returns the volume of a folder. Nothing is touched before Current.
func New(cfg Config) *Volume { return &Volume{cfg} }

func (v *Volume) path(gen uint64) string {
	return filepath.Join(v.cfg.Dir, "gen-"+strconv.FormatUint(gen, 10))
}

// Current implements kv.Volume.
func (v *Volume) Current() (uint64, error) {
	if err := MakeDir(v.cfg.Dir); err != nil {
		return 0, err
	}
	path := filepath.Join(v.cfg.Dir, "CURRENT")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		// CURRENT is made durable before anything is written beside it, so
		// without it nothing was ever acknowledged.
		if err := v.removeAllBut(0); err != nil {
			return 0, err
		}
		return 1, v.SetCurrent(1)
	}
	if err != nil {
		return 0, fmt.Errorf("read which generation of the data is current: %w", err)
	}
	name := strings.TrimSuffix(string(b), "\n")
	gen, err := strconv.ParseUint(strings.TrimPrefix(name, "gen-"), 10, 64)
	if err != nil || name != "gen-"+strconv.FormatUint(gen, 10) {
		return 0, fmt.Errorf("%s holds %q where gen-N belongs: restore a backup", path, b)
	}
	if _, err := os.Stat(v.path(gen)); err != nil {
		return 0, fmt.Errorf("the current generation of the data is missing, restore a backup: %w", err)
	}
	return gen, v.removeAllBut(gen)
}

// SetCurrent implements kv.Volume: one file is swapped.
func (v *Volume) SetCurrent(gen uint64) error {
	if err := MakeDir(v.path(gen)); err != nil {
		return err
	}
	path := filepath.Join(v.cfg.Dir, "CURRENT")
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("make generation %d current: %w", gen, err)
	}
	_, err = fmt.Fprintf(f, "gen-%d\n", gen)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("make generation %d current: %w", gen, err)
	}
	if err := syncDir(v.cfg.Dir); err != nil { // the generation's folder itself
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("make generation %d current: %w", gen, err)
	}
	return syncDir(v.cfg.Dir)
}

// Remove implements kv.Volume.
func (v *Volume) Remove(gen uint64) error {
	if err := os.RemoveAll(v.path(gen)); err != nil {
		return fmt.Errorf("remove a generation of the data: %w", err)
	}
	return nil
}

func (v *Volume) removeAllBut(keep uint64) error {
	all, err := filepath.Glob(filepath.Join(v.cfg.Dir, "gen-*"))
	if err != nil {
		return err
	}
	for _, g := range all {
		if g == v.path(keep) {
			continue
		}
		if err := os.RemoveAll(g); err != nil {
			return fmt.Errorf("remove an old generation of the data: %w", err)
		}
	}
	return nil
}

// MakeDir creates a folder and those above it that are missing, for certain: the
// name of each is on disk when it returns.
func MakeDir(dir string) error {
	dir = filepath.Clean(dir)
	if fi, err := os.Stat(dir); err == nil {
		if fi.IsDir() {
			return nil
		}
		return fmt.Errorf("create the folder %s: a file is in its place", dir)
	}
	parent := filepath.Dir(dir)
	if err := MakeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create the folder: %w", err)
	}
	return syncDir(parent)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync the folder: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync the folder %s: %w", dir, err)
	}
	return nil
}
