package memory

import (
	"context"
	"fmt"
	"slices"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
)

// forgetAtOnce bounds how many memories one transaction forgets.
const forgetAtOnce = 100

// Forget destroys a memory and every other that it took the place of or that took
// its place: the whole fact, as it is and as it was. It returns how many.
func (s *Service) Forget(ctx context.Context, p auth.Principal, id string) (int, error) {
	return s.forget(ctx, p, id, "forget", func(list []opened) ([]opened, []opened, error) {
		chain := chainOf(list, id)
		if len(chain) == 0 {
			return nil, nil, fmt.Errorf("this memory was forgotten, or there was none: %w", store.ErrNotFound)
		}
		return chain, nil, nil
	})
}

// Undo destroys a memory alone, and puts the one whose place it took back in force.
func (s *Service) Undo(ctx context.Context, p auth.Principal, id string) error {
	_, err := s.forget(ctx, p, id, "undo", func(list []opened) (gone, back []opened, err error) {
		i := slices.IndexFunc(list, func(o opened) bool { return o.ID == id })
		if i < 0 {
			return nil, nil, fmt.Errorf("this memory was forgotten, or there was none: %w", store.ErrNotFound)
		}
		if !list[i].Current() {
			return nil, nil, ErrOld
		}
		for _, o := range list {
			if o.ID == list[i].Supersedes {
				o.SupersededBy, o.Superseded = "", moment(0)
				back = append(back, o)
			}
		}
		return list[i : i+1], back, nil
	})
	return err
}

// ForgetAll destroys all memories of a person.
func (s *Service) ForgetAll(ctx context.Context, p auth.Principal) (int, error) {
	total := 0
	for {
		n, err := s.forget(ctx, p, all, "forget all", func(list []opened) ([]opened, []opened, error) {
			return list[:min(len(list), forgetAtOnce)], nil, nil
		})
		if total += n; err != nil || n < forgetAtOnce {
			return total, err
		}
	}
}

// forget destroys what choose says, and writes again what it gives back.
func (s *Service) forget(ctx context.Context, p auth.Principal, id, what string, choose func([]opened) (gone, back []opened, err error)) (int, error) {
	who, err := owner(p)
	if err != nil {
		return 0, err
	}
	var names []string
	err = s.change(ctx, s.request(p, auth.MemoryWrite, id, who, what, ""), func(u *store.Update) error {
		names = nil
		h, err := head(u, who)
		if err != nil {
			return err
		}
		list, err := s.mine(u.Snapshot, who)
		if err != nil {
			return err
		}
		gone, back, err := choose(list)
		if err != nil {
			return err
		}
		for _, o := range gone {
			drop(u, who, o.ID)
			names = append(names, o.ID)
		}
		for _, o := range back {
			if err := o.put(u, who); err != nil {
				return err
			}
		}
		h.Count = len(list) - len(gone)
		return putHead(u, who, h)
	})
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if err := s.cfg.Ledger.Note(who, name); err != nil {
			s.cfg.Logger.Error("What was forgotten could not be noted on this node; it will be tried again.", "error", err)
		}
	}
	return len(names), nil
}

// drop destroys a memory: its key first of all.
func drop(u *store.Update, owner, id string) {
	u.Delete(keys.Key(owner, id))
	u.Delete(memories.Key(owner, id))
	u.Delete(uses.Key(owner, id))
	u.Put(goneRows.Key(owner, id), []byte{})
}

// chainOf lists a memory with all before and after it.
func chainOf(list []opened, id string) []opened {
	in := map[string]bool{id: true}
	for grown := true; grown; {
		grown = false
		for _, o := range list {
			linked := in[o.Supersedes] || in[o.SupersededBy] || in[o.DerivedFrom]
			if linked && !in[o.ID] {
				in[o.ID], grown = true, true
			}
			if in[o.ID] {
				for _, other := range []string{o.Supersedes, o.SupersededBy, o.DerivedFrom} {
					if other != "" && !in[other] {
						in[other], grown = true, true
					}
				}
			}
		}
	}
	var out []opened
	for _, o := range list {
		if in[o.ID] {
			out = append(out, o)
		}
	}
	return out
}
