package people

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cloister-os/cloister/auth/directory"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/schema"
)

// refreshWithin bounds asking one directory about everybody who is signed in.
const refreshWithin = time.Minute

// heardEvery is how often it is written that a directory goes on answering.
const heardEvery = 30 * time.Second

// Refresh asks the directories about people of theirs, writes what has changed,
// and returns who may not go on, with their account's state. A directory that does
// not answer for all who are asked for changes nothing of its people; that, and
// since when, is in Heard. The error is of the store.
func (s *Service) Refresh(ctx context.Context, ids []string) (map[string]directory.State, error) {
	byDir := map[string][]string{}
	for _, id := range ids {
		if dir, uuid, ok := Parts(id); ok {
			byDir[dir] = append(byDir[dir], uuid)
		}
	}
	out := map[string]directory.State{}
	var mu sync.Mutex // guards out and errs
	var errs []error
	var all sync.WaitGroup
	for dir, uuids := range byDir {
		all.Go(func() {
			over, err := s.refresh(ctx, dir, uuids)
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(out, over)
			errs = append(errs, err)
		})
	}
	all.Wait()
	return out, errors.Join(errs...)
}

// before is what is written of people before the directory is asked, so that an
// answer never overwrites what a sign-in has written meanwhile.
type before struct {
	item store.Item
	row  memberRow
}

func (s *Service) refresh(ctx context.Context, dir string, uuids []string) (map[string]directory.State, error) {
	d, joined, err := s.named(ctx, dir)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil // it was left: its sessions are refused as they are
	}
	if err != nil {
		return nil, err
	}
	was, last, err := s.written(ctx, dir, joined.Made, uuids)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	asking, cancel := context.WithTimeout(ctx, refreshWithin)
	defer cancel()
	now, err := d.Refresh(asking, slices.Collect(maps.Keys(was)))
	if ctx.Err() != nil {
		return nil, nil
	}
	if err != nil {
		return nil, s.silent(ctx, dir, last, err)
	}
	over := map[string]directory.State{}
	for uuid, b := range was {
		p, there := now[uuid]
		next := memberRow{V: 1, Made: b.row.Made, Login: p.Login, Name: p.Name, State: string(p.State), Groups: pack(p.Groups), Checked: s.cfg.Now().Unix()}
		if !there {
			next = b.row
			next.State, next.Groups = string(gone), nil
		}
		if state := directory.State(next.State); ended(state) {
			over[ID(dir, uuid)] = state
		}
		if !b.row.same(next) {
			if err := s.rewriteMember(ctx, b, next); err != nil {
				return over, err
			}
		}
	}
	return over, s.answered(ctx, dir, last, len(was), time.Since(began))
}

// written reads what is known of people, without those of whom nothing is.
func (s *Service) written(ctx context.Context, dir, made string, uuids []string) (map[string]before, heardRow, error) {
	was := map[string]before{}
	var last heardRow
	err := s.cfg.Store.View(ctx, store.Local, func(snap store.Snapshot) error {
		if _, err := read(snap.Get, heard.Key(dir), &last); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		for _, uuid := range uuids {
			var b before
			var err error
			b.item, err = read(snap.Get, members.Key(dir, uuid), &b.row)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			if err == nil && b.row.Made == made {
				was[uuid] = b
			}
		}
		return nil
	})
	return was, last, err
}

func (s *Service) rewriteMember(ctx context.Context, b before, next memberRow) error {
	tx := store.NewTx()
	tx.Check(b.item.Key, b.item.Version)
	tx.Put(b.item.Key, schema.MustRewrite(b.item.Value, next))
	if _, err := s.cfg.Store.Apply(ctx, tx); err != nil && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("write what a directory says of its people: %w", err)
	}
	return nil
}

// answered writes that the directory did, when that is news.
func (s *Service) answered(ctx context.Context, dir string, last heardRow, people int, took time.Duration) error {
	now := s.cfg.Now()
	if last.Silent > 0 {
		s.cfg.Logger.Info("The directory answers again.", "directory", dir, "silent", now.Sub(unix(last.Silent)).Round(time.Second))
	} else if now.Sub(unix(last.At)) < heardEvery {
		return nil
	}
	return s.putHeard(ctx, dir, heardRow{V: 1, At: now.Unix(), People: people, TookMS: took.Milliseconds()})
}

// silent writes that the directory does not answer, when that is news.
func (s *Service) silent(ctx context.Context, dir string, last heardRow, why error) error {
	if last.Silent > 0 {
		return nil
	}
	s.cfg.Logger.Warn("The directory does not answer: who is signed in goes on with what it said last.", "directory", dir, "error", why, "at_most", Unheard)
	last.V, last.Silent, last.Why = 1, s.cfg.Now().Unix(), shown(why.Error())
	return s.putHeard(ctx, dir, last)
}

func (s *Service) putHeard(ctx context.Context, dir string, row heardRow) error {
	_, err := s.cfg.Store.Update(ctx, func(u *store.Update) error {
		if _, err := u.Get(directories.Key(dir)); errors.Is(err, store.ErrNotFound) {
			return nil // left meanwhile
		} else if err != nil {
			return err
		}
		var old heardRow
		item, err := read(u.Snapshot.Get, heard.Key(dir), &old)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		u.Put(heard.Key(dir), schema.MustRewrite(item.Value, row))
		return nil
	})
	if err != nil {
		return fmt.Errorf("write how it goes with a directory: %w", err)
	}
	return nil
}

// Clean removes, once, what is written of people of directories that were left.
func (s *Service) Clean(ctx context.Context) error {
	var old []store.Item
	err := s.cfg.Store.View(ctx, store.Local, func(snap store.Snapshot) error {
		made := map[string]string{}
		for item, err := range snap.Scan(directories.Prefix(), "") {
			if err != nil {
				return err
			}
			var row directoryRow
			name, err := readNamed(item, &row)
			if err != nil {
				return err
			}
			made[name] = row.Made
		}
		for item, err := range snap.Scan(members.Prefix(), "") {
			if err != nil {
				return err
			}
			var row memberRow
			parts, ok := members.Parts(item.Key)
			if _, err := read(func(store.Key) (store.Item, error) { return item, nil }, item.Key, &row); err != nil || !ok || len(parts) != 2 || row.Made != made[parts[0]] {
				old = append(old, item)
			}
		}
		return nil
	})
	for i := 0; i < len(old) && err == nil; i++ {
		tx := store.NewTx()
		tx.Check(old[i].Key, old[i].Version)
		tx.Delete(old[i].Key)
		if _, err = s.cfg.Store.Submit(ctx, tx, store.Bulk).Wait(ctx); errors.Is(err, store.ErrConflict) {
			err = nil
		}
	}
	return err
}
