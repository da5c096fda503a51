package memory

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/cloister-os/cloister/agents/memory/speech"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
)

// change makes a change of a person's memories. Its intent, itself and its outcome
// are one transaction.
func (s *Service) change(ctx context.Context, req guard.Request, f func(*store.Update) error) error {
	_, err := s.cfg.Store.Update(ctx, func(u *store.Update) error {
		permit, err := s.cfg.Door.Begin(ctx, u.Tx, req)
		if err != nil {
			return err
		}
		if err := permit.Covers(req.Action, req.Resource); err != nil {
			return err
		}
		if err := person(req.Principal); err != nil {
			return err
		}
		if err := f(u); err != nil {
			return err
		}
		return s.cfg.Door.Finish(u.Tx, permit, guard.Outcome{Status: guard.StatusOK})
	})
	return err
}

// secrets are what people say when they tell a secret. It is meant to be strict:
// what is refused wrongly can be said in other words.
var secrets = regexp.MustCompile(`(?i)\b(?:pass ?(?:words?|phrases?|codes?)|api[ -]?keys?|secret(?: keys?)?|access tokens?|private keys?|pin(?: code)?|credentials?)\b[^?]{0,40}\b(?:is|are|=|was)\b` +
	`|-----BEGIN [A-Z ]*PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[0-9A-Za-z]{30,}\b|\beyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.`)

// aboutSecrets are facts about secrets that tell none.
var aboutSecrets = regexp.MustCompile(`(?i)\b(?:rotat\w*|expir\w*|polic\w*|length|kept|stored|reset|passwords? managers?)\b`)

func holdsSecret(text string) bool {
	return auth.HoldsSecret(text) || secrets.MatchString(text) && !aboutSecrets.MatchString(text)
}

// Recognise reports whether what somebody typed is a statement that would be
// remembered for them.
func (s *Service) Recognise(ctx context.Context, p auth.Principal, text string) bool {
	_, ok := speech.Recognise(text, s.now())
	return ok && s.May(ctx, p, auth.MemoryWrite)
}

// Hold puts a statement aside for the run that will keep it, and returns the id
// that the run is given in place of the words. The same once holds it once.
func (s *Service) Hold(ctx context.Context, p auth.Principal, once, text string) (string, error) {
	st, ok := speech.Recognise(text, s.now())
	if !ok || len(once) > maxOnce {
		return "", ErrWords
	}
	m, err := s.write(ctx, p, write{what: "hold", once: once, text: text, st: st, held: true})
	return m.ID, err
}

// Add remembers what somebody wrote on the page Memory, or by its command. The same
// once adds it once.
func (s *Service) Add(ctx context.Context, p auth.Principal, once, text string) (Memory, error) {
	st, ok := speech.Plain(text, s.now())
	if !ok || len(once) > maxOnce {
		return Memory{}, ErrWords
	}
	return s.write(ctx, p, write{what: "add", once: once, text: text, st: st})
}

// Edit puts a correction in a memory's place. What was before stays until the
// memory is forgotten. The same once corrects it once.
func (s *Service) Edit(ctx context.Context, p auth.Principal, id, once, text string) (Memory, error) {
	st, ok := speech.Plain(text, s.now())
	if !ok || len(once) > maxOnce {
		return Memory{}, ErrWords
	}
	if id == "" {
		return Memory{}, fmt.Errorf("no memory is named: %w", store.ErrNotFound)
	}
	return s.write(ctx, p, write{what: "edit", once: once, text: text, st: st, edits: id})
}

// write is a memory in the making.
type write struct {
	what, once, text string
	st               speech.Statement
	held             bool
	edits            string // the memory that it is a correction of
}

func (s *Service) write(ctx context.Context, p auth.Principal, w write) (Memory, error) {
	who, err := owner(p)
	if err != nil {
		return Memory{}, err
	}
	if holdsSecret(w.text) {
		return Memory{}, ErrSecret
	}
	id := newID(who, w.what, w.once)
	var out Memory
	err = s.change(ctx, s.request(p, auth.MemoryWrite, id, who, w.what, ""), func(u *store.Update) error {
		h, err := head(u, who)
		if err != nil {
			return err
		}
		before, err := s.open(u.Snapshot, who, id)
		if err == nil {
			out = before.Memory // the request was sent again
			return nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		o, err := s.fresh(u, who, s.made(p, id, w))
		if err != nil {
			return err
		}
		if h, err = s.place(u, who, h, &o, w.edits); err != nil {
			return err
		}
		out = o.Memory
		return putHead(u, who, h)
	})
	return out, err
}

// made is the memory that a statement makes.
func (s *Service) made(p auth.Principal, id string, w write) Memory {
	return Memory{
		ID: id, Words: w.st.Words, Subject: w.st.Subject, Attribute: w.st.Attribute, Value: w.st.Value, From: w.st.From, Until: w.st.Until,
		Evidence: Evidence{Said: w.text, Start: w.st.Start, End: w.st.End}, Created: s.now().Truncate(time.Second), By: p.ID,
		DerivedFrom: w.edits, slot: w.st.Slot, held: w.held,
	}
}

// place puts a new memory among a person's others. One that is only held takes the
// place of none yet. What was held an hour ago and never kept is dropped.
func (s *Service) place(u *store.Update, who string, h headRow, o *opened, edits string) (headRow, error) {
	list, err := s.mine(u.Snapshot, who)
	if err != nil {
		return h, err
	}
	count := 1
	found := edits == ""
	for _, other := range list {
		if other.ID == edits {
			found = true
			if !other.Current() || other.held {
				return h, ErrOld
			}
		}
		if other.held && other.Created.Before(o.Created.Add(-abandoned)) {
			drop(u, who, other.ID)
			continue
		}
		count++
	}
	if !found {
		return h, fmt.Errorf("this memory was forgotten, or there was none: %w", store.ErrNotFound)
	}
	if count > MaxPerPerson {
		return h, ErrFull
	}
	h.Count = count
	if !o.held {
		if err := s.supersede(u, who, o, list, edits); err != nil {
			return h, err
		}
	}
	return h, o.put(u, who)
}

// abandoned is how long ago a statement was put aside for a run that never began.
const abandoned = time.Hour

// supersede makes a memory take the place of the one that it corrects, or else of
// the one that says another thing of the same.
func (s *Service) supersede(u *store.Update, who string, o *opened, list []opened, edits string) error {
	for _, other := range list {
		if other.ID == o.ID || other.held || !other.Current() || other.ID != edits && (edits != "" || other.slot != o.slot) {
			continue
		}
		o.Supersedes = other.ID
		other.SupersededBy, other.Superseded = o.ID, o.Created
		return other.put(u, who)
	}
	return nil
}

// Keep turns a statement that was put aside into a memory, with the run as its
// evidence. It is done again without harm.
func (s *Service) Keep(ctx context.Context, p auth.Principal, id, run string) (Memory, error) {
	who, err := owner(p)
	if err != nil {
		return Memory{}, err
	}
	var out Memory
	err = s.change(ctx, s.request(p, auth.MemoryWrite, id, who, "keep", run), func(u *store.Update) error {
		h, err := head(u, who)
		if err != nil {
			return err
		}
		o, err := s.open(u.Snapshot, who, id)
		if err != nil {
			return err
		}
		if o.held {
			list, err := s.mine(u.Snapshot, who)
			if err != nil {
				return err
			}
			o.held, o.Evidence.Run, o.By = false, run, p.ID
			if err := s.supersede(u, who, &o, list, ""); err != nil {
				return err
			}
			if err := o.put(u, who); err != nil {
				return err
			}
		}
		out = o.Memory
		return putHead(u, who, h)
	})
	return out, err
}

// Said is the text that somebody typed for a held or kept statement.
func (m Memory) Said() string { return strings.TrimSpace(m.Evidence.Said) }
