package memory

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
)

// Ledger is a node's list of what was forgotten. It lies in a file outside of what
// a restore replaces, and holds opaque ids alone. Each node keeps the whole list;
// copies of it go to where backups lie, for a restore on a bare machine. A nil
// Ledger is empty and takes nothing. It is safe for concurrent use.
type Ledger struct {
	path   string
	copies []string

	mu   sync.Mutex // guards all below, and the file
	gone map[entry]bool
}

// entry is a line of the file.
type entry struct {
	Owner  string `json:"owner"`
	Memory string `json:"memory"`
}

// OpenLedger reads the ledger at path, or begins one. Whenever it grows it is copied
// to the other paths whose folder is there. A last line that a crash cut is dropped:
// the store still tells of it.
func OpenLedger(path string, copies ...string) (*Ledger, error) {
	l := &Ledger{path: path, copies: copies, gone: map[entry]bool{}}
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read what was forgotten: %w", err)
	}
	whole := b[:bytes.LastIndexByte(b, '\n')+1]
	for lines := bufio.NewScanner(bytes.NewReader(whole)); lines.Scan(); {
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("the list of what was forgotten, %s, is damaged: put it back from another node: %w", path, err)
		}
		l.gone[e] = true
	}
	if len(whole) < len(b) {
		if err := os.Truncate(path, int64(len(whole))); err != nil {
			return nil, fmt.Errorf("mend the list of what was forgotten: %w", err)
		}
	}
	return l, nil
}

// Has reports whether a memory was forgotten.
func (l *Ledger) Has(owner, id string) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone[entry{owner, id}]
}

// Note adds a memory that was forgotten; it is on the disk when Note returns.
func (l *Ledger) Note(owner, id string) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e := entry{owner, id}
	if l.gone[e] {
		return nil
	}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := appendSynced(l.path, append(line, '\n')); err != nil {
		return fmt.Errorf("note what was forgotten: %w", err)
	}
	l.gone[e] = true
	return l.copy()
}

func appendSynced(path string, line []byte) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(line)
	return errors.Join(err, f.Sync(), f.Close())
}

// copy replaces the copies. l.mu is held.
func (l *Ledger) copy() error {
	b, err := os.ReadFile(l.path)
	if err != nil {
		return err
	}
	for _, to := range l.copies {
		if _, err := os.Stat(filepath.Dir(to)); errors.Is(err, fs.ErrNotExist) {
			continue // no backup was made yet
		}
		if err := MergeLedger(to, b); err != nil {
			return fmt.Errorf("copy what was forgotten to %s: %w", to, err)
		}
	}
	return nil
}

// Copy writes the copies anew, for a folder of backups that was not there before.
func (l *Ledger) Copy() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.gone) == 0 {
		return nil
	}
	return l.copy()
}

// MergeLedger adds the lines of a ledger's file to the one at path, which may be
// another node's or not there.
func MergeLedger(path string, more []byte) error {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	have := map[string]bool{}
	var out bytes.Buffer
	for _, b := range [][]byte{old, more} {
		for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
			if line := lines.Text(); !have[line] && json.Valid(lines.Bytes()) {
				have[line] = true
				out.WriteString(line + "\n")
			}
		}
	}
	if bytes.Equal(out.Bytes(), old) {
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(out.Bytes())
	if err = errors.Join(err, tmp.Chmod(0o600), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// entries lists the whole ledger.
func (l *Ledger) entries() []entry {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]entry, 0, len(l.gone))
	for e := range l.gone {
		out = append(out, e)
	}
	return out
}

// Run keeps the ledger in step with what is forgotten through other nodes, until
// the context ends.
func (s *Service) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := s.follow(ctx)
		if err == nil || ctx.Err() != nil || errors.Is(err, store.ErrCompacted) {
			continue
		}
		s.cfg.Logger.Warn("What was forgotten cannot be noted on this node; it will be tried again.", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(noteAgain):
		}
	}
	return nil
}

// noteAgain is how long to wait before a ledger that could not be written is tried
// again.
const noteAgain = 10 * time.Second

func (s *Service) follow(ctx context.Context) error {
	var from store.Version
	err := s.cfg.Store.View(ctx, store.Local, func(snap store.Snapshot) error {
		from = snap.Version()
		for item, err := range snap.Scan(goneRows.Prefix(), "") {
			if err != nil {
				return err
			}
			if err := s.note(item.Key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.cfg.Ledger.Copy(); err != nil {
		s.cfg.Logger.Warn("What was forgotten could not be copied to the backups.", "error", err)
	}
	for change, err := range s.cfg.Store.Watch(ctx, goneRows.Prefix(), from) {
		if err != nil {
			return err
		}
		for _, w := range change.Writes {
			if err := s.note(w.Key); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

func (s *Service) note(k store.Key) error {
	parts, ok := goneRows.Parts(k)
	if !ok || len(parts) != 2 {
		return fmt.Errorf("what was forgotten at %q is malformed", k)
	}
	return s.cfg.Ledger.Note(parts[0], parts[1])
}

// ForgetAgain destroys what a restore brought back of what was forgotten, in the
// name of the node. It returns how many memories.
func (s *Service) ForgetAgain(ctx context.Context, node string) (int, error) {
	var back []entry
	err := s.cfg.Store.View(ctx, store.Local, func(snap store.Snapshot) error {
		for _, e := range s.cfg.Ledger.entries() {
			_, err := snap.Get(goneRows.Key(e.Owner, e.Memory))
			if errors.Is(err, store.ErrNotFound) {
				back = append(back, e)
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for i, e := range back {
		p := auth.Principal{Kind: auth.System, ID: node, Name: node}
		req := s.request(p, auth.MemoryWrite, e.Memory, e.Owner, "forget again after a restore", "")
		if err := s.change(ctx, req, func(u *store.Update) error { return s.dropAgain(u, e) }); err != nil {
			return i, fmt.Errorf("forget again: %w", err)
		}
	}
	return len(back), nil
}

// dropAgain destroys one memory, and leaves the number of its owner's right.
func (s *Service) dropAgain(u *store.Update, e entry) error {
	h, err := head(u, e.Owner)
	if err != nil {
		return err
	}
	if _, err := u.Get(memories.Key(e.Owner, e.Memory)); err == nil {
		h.Count = max(0, h.Count-1)
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	drop(u, e.Owner, e.Memory)
	return putHead(u, e.Owner, h)
}
