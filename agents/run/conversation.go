package run

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
)

// A conversation is runs of one owner in a row, each of which can lean on those
// before. It is named by its first run, so that a run which was started by itself
// is a conversation of one turn, and nothing is written down of it until it has a
// second turn or a title of its own. Nobody but its owner can read, change or
// delete it: it is looked for among the caller's own, and one that is not there
// is refused like one that is somebody else's.

// conversations and deletes are the state of the moment: what a conversation was
// called before is of use to nobody.
const (
	conversations store.Space = "S/conversation/"        // owner kind, owner id, first run's id -> keptRecord
	deletes       store.Space = "S/conversation-delete/" // owner kind, owner id, first run's id -> nothing; there while it is being deleted
)

// Bounds of conversations.
const (
	MaxTurns         = 100  // of a conversation
	MaxConversations = 2000 // of one owner, that have more than one turn or a title
	MaxTitleBytes    = 200
	maxLooked        = 5000 // runs that are looked at for one page of a list
	maxTries         = 8    // at a change that meets another
)

// Conversation is what is known of a conversation.
type Conversation struct {
	ID      ID
	Title   string // "" = its first question is its title
	First   Run    // without its result; its State is "" once it has been forgotten
	Last    Run    // the newest turn, without its result
	Created time.Time
	Updated time.Time // its newest turn was started
	Turns   int
}

// Begin starts a run of an agent as the next turn of a conversation of the
// caller's, or, when none is named, by itself. A second call with the same key
// that is not "" returns the first call's run. conversation is the one that the
// run is a turn of.
func (e *Engine) Begin(ctx context.Context, p auth.Principal, key string, in ID, agent string, input any) (id, conversation ID, err error) {
	if key != "" && in != "" { // the turn before may be this very one, sent again
		if id, err = e.started(ctx, p, key); err == nil {
			return e.begun(ctx, id)
		} else if !errors.Is(err, store.ErrNotFound) {
			return "", "", err
		}
	}
	if in == "" {
		if id, err = e.start(ctx, p, key, agent, input, nil); err != nil {
			return "", "", err
		}
		return e.begun(ctx, id)
	}
	for range maxTries {
		k, err := e.mine(ctx, p, in, "continue")
		if err != nil {
			return "", "", err
		}
		if err := e.mayGoOn(ctx, p, k, agent); err != nil {
			return "", "", err
		}
		id, err := e.start(ctx, p, key, agent, input, &k)
		var met *store.ConflictError
		if errors.As(err, &met) && met.Key == k.key(p) {
			continue // it went on through another node
		}
		return id, k.ID, err
	}
	return "", "", ErrBusy
}

// begun tells which conversation a run is of that was started for this call or
// for an earlier one with the same key.
func (e *Engine) begun(ctx context.Context, id ID) (ID, ID, error) {
	h, err := e.load(ctx, id)
	if err != nil {
		return "", "", err
	}
	if h.rec.Root != "" {
		return id, h.rec.Root, nil
	}
	return id, id, nil
}

// mayGoOn reports why a conversation can have no other turn now, or nil.
func (e *Engine) mayGoOn(ctx context.Context, p auth.Principal, k kept, agent string) error {
	if len(k.Turns) >= MaxTurns {
		return ErrFull
	}
	last, err := e.loadAt(ctx, store.Fresh, k.Turns[len(k.Turns)-1])
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err == nil && last.rec.State == Running {
		return ErrTurn
	}
	if err == nil && last.rec.Agent != agent {
		return fmt.Errorf("a conversation goes on with the agent it began with, %s: %w", last.rec.Agent, store.ErrInvalid)
	}
	return e.roomFor(ctx, p, k.ID)
}

// roomFor reports why a conversation can not be written down beside those that an
// owner has, or nil.
func (e *Engine) roomFor(ctx context.Context, p auth.Principal, id ID) error {
	return e.cfg.Store.View(ctx, store.Local, func(s store.Snapshot) error {
		if _, err := s.Get(kept{ID: id}.key(p)); err == nil {
			return nil
		}
		n := 0
		for _, err := range s.Scan(conversations.Prefix(string(p.Kind), p.ID), "") {
			if err != nil {
				return err
			}
			if n++; n >= MaxConversations {
				return ErrMany
			}
		}
		return nil
	})
}

// mine finds a conversation among the caller's own. Each look is on the record.
func (e *Engine) mine(ctx context.Context, p auth.Principal, id ID, why string) (kept, error) {
	k, missing := e.find(ctx, p, id)
	if missing != nil && !errors.Is(missing, ErrNotFound) {
		return kept{}, missing
	}
	owner := p.ID
	if missing != nil {
		owner = "" // refused like one that somebody else has
	}
	req := guard.Request{Principal: p, Action: auth.RunRead, Resource: auth.Run(string(id), owner), Run: string(id), Detail: map[string]any{"conversation": why}}
	err := e.cfg.Door.Read(ctx, req, func(context.Context, *guard.Permit) (guard.Outcome, error) {
		if missing != nil {
			return guard.Outcome{Status: guard.StatusFailed, Error: missing.Error()}, missing
		}
		return guard.Outcome{Status: guard.StatusOK, Usage: map[string]int64{"rows": int64(len(k.Turns))}}, nil
	})
	return k, err
}

// Conversation tells what is known of a conversation of the caller's, and its
// turns with their results, oldest first: at most limit (100) of those before
// turn number before (from 1), or of all when it is 0. Turns that were forgotten
// are left out.
func (e *Engine) Conversation(ctx context.Context, p auth.Principal, id ID, before, limit int) (Conversation, []Run, error) {
	k, err := e.mine(ctx, p, id, "read")
	if err != nil {
		return Conversation{}, nil, err
	}
	list := k.Turns
	if before > 0 {
		list = list[:min(before-1, len(list))]
	}
	if limit > 0 && len(list) > limit {
		list = list[len(list)-limit:]
	}
	var out []Run
	for _, turn := range list {
		h, err := e.load(ctx, turn)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return Conversation{}, nil, err
		}
		r := h.rec.run(e.agents[h.rec.Agent])
		if h.rec.State == Done {
			r.Result, err = e.final(ctx, turn, h.rec.NextSeq-1)
			if err == nil {
				r.Result, err = e.release(ctx, p, r.Agent, KindFinal, r.Result)
			}
			if err != nil {
				return Conversation{}, nil, err
			}
		}
		out = append(out, r)
	}
	var c Conversation
	err = e.cfg.Store.View(ctx, store.Local, func(s store.Snapshot) error {
		c, err = e.known(s, k)
		return err
	})
	if err == nil {
		err = e.asked(ctx, p, append(pointers(out), &c.First, &c.Last)...)
	}
	return c, out, err
}

// known is what a conversation's record and its first and last turn tell.
func (e *Engine) known(s store.Snapshot, k kept) (Conversation, error) {
	c := Conversation{ID: k.ID, Title: k.Title, Created: k.Created, Updated: k.Updated, Turns: len(k.Turns)}
	for _, end := range []struct {
		id ID
		to *Run
	}{{k.Turns[0], &c.First}, {k.Turns[len(k.Turns)-1], &c.Last}} {
		h, err := load(s, end.id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return c, err
		}
		*end.to = h.rec.run(e.agents[h.rec.Agent])
	}
	return c, nil
}

// Conversations lists the caller's own, the one with the newest turn first: at
// most limit (100) of those whose newest turn was before a run, or from the
// newest when before is "". A filter that is not nil leaves out what it does not
// like. more is where the next page begins, "" when there is none.
func (e *Engine) Conversations(ctx context.Context, p auth.Principal, before ID, limit int, filter func(Conversation) bool) (out []Conversation, more ID, err error) {
	if limit <= 0 || limit > maxList {
		limit = maxList
	}
	req := guard.Request{Principal: p, Action: auth.RunRead, Resource: auth.Run("own", p.ID), Detail: map[string]any{"conversation": "list"}}
	err = e.cfg.Door.Read(ctx, req, func(ctx context.Context, _ *guard.Permit) (guard.Outcome, error) {
		err := e.cfg.Store.View(ctx, store.Local, func(s store.Snapshot) (err error) {
			out, more, err = e.listed(ctx, s, p, before, limit, filter)
			return err
		})
		return guard.Outcome{Status: guard.StatusOK, Usage: map[string]int64{"rows": int64(len(out))}}, err
	})
	var told []*Run
	for i := range out {
		told = append(told, &out[i].First, &out[i].Last)
	}
	if err == nil {
		err = e.asked(ctx, p, told...)
	}
	if err != nil {
		return nil, "", err
	}
	return out, more, nil
}

// listed goes back through the owner's runs: a conversation stands where its
// newest turn does.
func (e *Engine) listed(ctx context.Context, s store.Snapshot, p auth.Principal, before ID, limit int, filter func(Conversation) bool) (out []Conversation, more ID, err error) {
	start := store.Key("")
	if before != "" {
		start = byOwner.Key(string(p.Kind), p.ID, string(before))
	}
	looked := 0
	for item, err := range s.ScanBack(byOwner.Prefix(string(p.Kind), p.ID), start) {
		if err != nil {
			return nil, "", err
		}
		parts, ok := byOwner.Parts(item.Key)
		if !ok {
			return nil, "", fmt.Errorf("run of an owner with a strange key %q", item.Key)
		}
		id := ID(parts[len(parts)-1])
		if len(out) == limit || looked == maxLooked {
			return out, more, nil
		}
		looked, more = looked+1, id
		c, ok, err := e.standsAt(s, p, id, item.Value)
		if err != nil {
			return nil, "", err
		}
		if ok && filter != nil { // it looks at the first question
			if err := e.asked(ctx, p, &c.First); err != nil {
				return nil, "", err
			}
		}
		if ok && (filter == nil || filter(c)) {
			out = append(out, c)
		}
	}
	return out, "", nil
}

// standsAt is the conversation whose newest turn a run is, if it is one's.
func (e *Engine) standsAt(s store.Snapshot, p auth.Principal, id ID, value []byte) (Conversation, bool, error) {
	root := id
	if len(value) > 0 {
		if err := decode(value, &root); err != nil {
			return Conversation{}, false, fmt.Errorf("run %s of an owner: %w", id, err)
		}
	}
	k, err := loadKept(s, p, root)
	if errors.Is(err, ErrNotFound) || err == nil && k.at != 0 && k.Turns[len(k.Turns)-1] != id {
		return Conversation{}, false, nil
	}
	if err != nil {
		return Conversation{}, false, err
	}
	if k.at == 0 {
		h, err := load(s, root)
		if errors.Is(err, ErrNotFound) {
			return Conversation{}, false, nil // it is being forgotten
		}
		if err != nil {
			return Conversation{}, false, err
		}
		k.Turns, k.Created, k.Updated = []ID{root}, h.rec.Started, h.rec.Started
	}
	c, err := e.known(s, k)
	return c, err == nil, err
}

// Rename gives a conversation of the caller's another title.
func (e *Engine) Rename(ctx context.Context, p auth.Principal, id ID, title string) error {
	title, err := cleanTitle(title)
	if err != nil {
		return err
	}
	if err := e.roomFor(ctx, p, id); err != nil {
		return err
	}
	err = e.change(ctx, p, id, "rename", func(k *kept, _ *store.Update) { k.Title = title }, nil)
	if done := (*guard.DoneError)(nil); errors.As(err, &done) {
		return nil // it was sent before
	}
	return err
}

func cleanTitle(title string) (string, error) {
	title = strings.Join(strings.Fields(norm.NFC.String(strings.ToValidUTF8(title, ""))), " ")
	if title == "" || len(title) > MaxTitleBytes {
		return "", fmt.Errorf("%w: a title has 1 to %d bytes of text", store.ErrInvalid, MaxTitleBytes)
	}
	if auth.HoldsSecret(title) {
		return "", fmt.Errorf("%w: an API key or session token is no title: replace it, for it may have been seen", store.ErrInvalid)
	}
	return title, nil
}

// ShortTitle is a question as the title of its conversation.
func ShortTitle(question string) string {
	question = strings.Join(strings.Fields(question), " ")
	if len(question) <= MaxTitleBytes {
		return question
	}
	cut := question[:MaxTitleBytes-len("…")]
	for !utf8.ValidString(cut) {
		cut = cut[:len(cut)-1]
	}
	return cut + "…"
}

// change changes a conversation of the caller's, behind the door, once for an
// idempotency key; then it does what comes after that, if anything.
func (e *Engine) change(ctx context.Context, p auth.Principal, id ID, what string, edit func(*kept, *store.Update), then func(context.Context, kept) error) error {
	req := guard.Request{Principal: p, Action: auth.Ask, Resource: auth.TheSystem, Run: string(id), Detail: map[string]any{"conversation": what}}
	return e.cfg.Door.Do(ctx, req, func(ctx context.Context, _ *guard.Permit) (guard.Outcome, error) {
		// An update sees what this node knows: let that be all there is.
		if _, err := e.find(ctx, p, id); err != nil && !errors.Is(err, ErrNotFound) {
			return guard.Outcome{}, err
		}
		var k kept
		_, err := e.cfg.Store.Update(ctx, func(u *store.Update) (err error) {
			once := guard.OnceOf(ctx)
			if k, err = findKept(u.Snapshot, p, id); err != nil {
				if done := (*guard.DoneError)(nil); errors.As(once.Claim(u, nil), &done) {
					return done
				}
				return err
			}
			if err := once.Claim(u, []byte(strconv.Itoa(len(k.Turns)))); err != nil {
				return err
			}
			edit(&k, u)
			return k.put(u.Tx, p)
		})
		if errors.Is(err, ErrNotFound) {
			// One that does not exist is refused like one that somebody else has.
			return guard.Outcome{Status: guard.StatusFailed}, fmt.Errorf("%s a conversation that is not yours: %w", what, errors.Join(auth.ErrDenied, err))
		}
		if err == nil && then != nil {
			err = then(ctx, k)
		}
		return guard.Outcome{}, err
	})
}
