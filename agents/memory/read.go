package memory

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/cloister-os/cloister/agents/memory/speech"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
)

// List tells all memories of the caller, the newest first: those in force and
// those that others took the place of.
func (s *Service) List(ctx context.Context, p auth.Principal) ([]Memory, error) {
	var out []Memory
	err := s.read(ctx, p, all, "list", "", func(snap store.Snapshot, who string) (int, error) {
		list, err := s.mine(snap, who)
		for _, o := range list {
			if !o.held {
				out = append(out, o.Memory)
			}
		}
		return len(out), err
	})
	if err != nil {
		return nil, err
	}
	newestFirst(out)
	return out, nil
}

func newestFirst(list []Memory) {
	slices.SortFunc(list, func(a, b Memory) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		switch {
		case a.Supersedes == b.ID:
			return -1
		case b.Supersedes == a.ID:
			return 1
		}
		return strings.Compare(a.ID, b.ID)
	})
}

// Explained is a memory with all that was said of the same before and after it.
type Explained struct {
	Memory
	Chain []Memory // the newest first, itself included
}

// Get explains one memory of the caller.
func (s *Service) Get(ctx context.Context, p auth.Principal, id string) (Explained, error) {
	var out Explained
	err := s.read(ctx, p, id, "explain", "", func(snap store.Snapshot, who string) (int, error) {
		o, err := s.open(snap, who, id)
		if err != nil {
			return 0, err
		}
		out.Memory = o.Memory
		list, err := s.mine(snap, who)
		for _, o := range chainOf(list, id) {
			out.Chain = append(out.Chain, o.Memory)
		}
		return len(out.Chain), err
	})
	newestFirst(out.Chain)
	return out, err
}

// Open tells those of the caller's memories that are still there, by id. It is how
// the words come to a run that holds only their ids.
func (s *Service) Open(ctx context.Context, p auth.Principal, ids ...string) (map[string]Memory, error) {
	out := map[string]Memory{}
	if len(ids) == 0 {
		return out, nil
	}
	err := s.read(ctx, p, all, "open", "", func(snap store.Snapshot, who string) (int, error) {
		for _, id := range ids {
			o, err := s.open(snap, who, id)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return 0, err
			}
			out[id] = o.Memory
		}
		return len(out), nil
	})
	return out, err
}

// Recalled is a memory that a question is about.
type Recalled struct {
	ID    string
	Score float64 // 0 to 1
}

// Recall finds the memories in force that a question is about, the best first. It
// finds none when the question is about none, and reads nothing when the caller
// has none or may not have any.
func (s *Service) Recall(ctx context.Context, p auth.Principal, question, run string) ([]Recalled, error) {
	if !s.May(ctx, p, auth.MemoryRead) || !s.has(ctx, p) {
		return nil, nil
	}
	var out []Recalled
	err := s.read(ctx, p, all, "recall", run, func(snap store.Snapshot, who string) (int, error) {
		list, err := s.mine(snap, who)
		if err != nil {
			return 0, err
		}
		now := s.now()
		list = slices.DeleteFunc(list, func(o opened) bool { return o.held || !o.Current() || o.Over(now) })
		slices.SortFunc(list, func(a, b opened) int { return b.Created.Compare(a.Created) })
		said := make([]speech.Statement, len(list))
		for i, o := range list {
			said[i] = o.statement()
		}
		for _, m := range speech.Prepare(question).Find(said) {
			out = append(out, Recalled{list[m.Index].ID, m.Score})
		}
		return len(out), nil
	})
	return out, err
}

// has reports whether the caller has memories; it reads no more than their number.
func (s *Service) has(ctx context.Context, p auth.Principal) bool {
	who, err := owner(p)
	if err != nil {
		return false
	}
	var h headRow
	err = s.cfg.Store.View(ctx, store.Local, func(snap store.Snapshot) error {
		item, err := snap.Get(heads.Key(who))
		if err != nil {
			return err
		}
		return decode(item.Value, &h)
	})
	return err != nil && !errors.Is(err, store.ErrNotFound) || h.Count > 0
}

// Use tells the memories that an answer is made of, as Open does, and counts that
// the run used them.
func (s *Service) Use(ctx context.Context, p auth.Principal, run string, ids ...string) (map[string]Memory, error) {
	out, err := s.Open(ctx, p, ids...)
	if err != nil || len(out) == 0 {
		return out, err
	}
	who, err := owner(p)
	if err != nil {
		return nil, err
	}
	err = s.change(ctx, s.request(p, auth.MemoryWrite, all, who, "count a use", run), func(u *store.Update) error {
		for id := range out {
			if err := s.used(u, who, id, run); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

func (s *Service) used(u *store.Update, who, id, run string) error {
	at := uses.Key(who, id)
	r := useRow{V: rowVersion}
	item, err := u.Get(at)
	if err == nil {
		err = decode(item.Value, &r)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) || r.Run == run {
		return err
	}
	r.Count, r.Last, r.Run = r.Count+1, s.now().Unix(), run
	value, err := encode(r)
	if err != nil {
		return err
	}
	if _, err := u.Get(keys.Key(who, id)); err != nil { // forgotten meanwhile
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	}
	u.Put(at, value)
	return nil
}

// read runs f on what this node knows, through the guard; f returns how many rows
// were told.
func (s *Service) read(ctx context.Context, p auth.Principal, id, what, run string, f func(snap store.Snapshot, who string) (int, error)) error {
	who, err := owner(p)
	if err != nil {
		return err
	}
	req := s.request(p, auth.MemoryRead, id, who, what, run)
	return s.cfg.Door.Read(ctx, req, func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		if err := permit.Covers(req.Action, req.Resource); err != nil {
			return guard.Outcome{}, err
		}
		if err := person(p); err != nil {
			return guard.Outcome{}, err
		}
		rows := 0
		err := s.cfg.Store.View(ctx, store.Local, func(snap store.Snapshot) (err error) {
			rows, err = f(snap, who)
			return err
		})
		return guard.Outcome{Usage: map[string]int64{"rows": int64(rows)}}, err
	})
}
