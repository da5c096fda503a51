package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

var eve = auth.Principal{Kind: auth.User, ID: "u-eve"}

// leaning is an agent whose answer is what it was told and what the turns before
// were told, newest first.
func leaning(hold chan bool) Agent {
	return Agent{Name: "leaning", Revision: "1", Steps: []Step{
		Func("hear", Read, func(ctx context.Context, c *Call) (string, error) {
			if hold != nil {
				select {
				case <-hold:
				case <-ctx.Done():
					return "", ctx.Err()
				}
			}
			return Input[string](c)
		}),
		Func("say", Read, func(ctx context.Context, c *Call) ([]string, error) {
			own, err := Result[string](c, "hear")
			if err != nil {
				return nil, err
			}
			out := []string{own}
			ids, err := c.Earlier(ctx, 3)
			if err != nil {
				return nil, err
			}
			for _, id := range ids {
				s, err := EarlierResult[string](ctx, c, id, "hear")
				if errors.Is(err, ErrNotFound) {
					continue
				}
				if err != nil {
					return nil, err
				}
				out = append(out, s)
			}
			return out, nil
		}),
	}}
}

// ticking gives every run a millisecond of its own, by which they are in order.
func ticking(e *Engine) {
	var n atomic.Int64
	start := time.Now()
	e.cfg.Now = func() time.Time { return start.Add(time.Duration(n.Add(1)) * time.Millisecond) }
}

// tell takes a turn to its end and returns its id and its result.
func tell(t *testing.T, e *Engine, p auth.Principal, in ID, text string) (ID, string) {
	t.Helper()
	id, conversation, err := e.Begin(t.Context(), p, "", in, "leaning", text)
	if err != nil {
		t.Fatal(err)
	}
	if in != "" && conversation != in {
		t.Fatalf("%s went on as %s", in, conversation)
	}
	list := hear(t, e, p, id, 0)
	last := list[len(list)-1]
	if last.Conversation != conversation {
		t.Errorf("the last event is of conversation %s, want %s", last.Conversation, conversation)
	}
	return id, string(last.Data)
}

func TestATurnCanReadThoseBeforeIt(t *testing.T) {
	e := engine(t, storetest.NewModel(nil), &openDoor{}, leaning(nil))
	ticking(e)
	root, _ := tell(t, e, ann, "", "one")
	for i, want := range []string{`["two","one"]`, `["three","two","one"]`, `["four","three","two","one"]`, `["five","four","three","two"]`} {
		text := []string{"two", "three", "four", "five"}[i]
		if _, got := tell(t, e, ann, root, text); got != want {
			t.Errorf("turn %d says %s, want %s", i+2, got, want)
		}
	}
	alone, got := tell(t, e, ann, "", "else")
	if got != `["else"]` {
		t.Errorf("a run by itself says %s", got)
	}
	c, turns, err := e.Conversation(t.Context(), ann, root, 0, 2)
	if err != nil || c.Turns != 5 || len(turns) != 2 || string(turns[1].Result) != `["five","four","three","two"]` || turns[0].Conversation != root {
		t.Errorf("conversation %+v, turns %+v, %v", c, turns, err)
	}
	if c, _, err := e.Conversation(t.Context(), ann, turns[1].ID, 0, 0); err != nil || c.ID != root {
		t.Errorf("named by its last turn it is %s, %v", c.ID, err)
	}
	list, more, err := e.Conversations(t.Context(), ann, "", 10, nil)
	if err != nil || more != "" || len(list) != 2 || list[0].ID != alone || list[1].ID != root || list[1].Turns != 5 {
		t.Errorf("list %+v, %q, %v", list, more, err)
	}
	tell(t, e, ann, root, "six") // now it has the newest turn
	if list, more, err = e.Conversations(t.Context(), ann, "", 1, nil); err != nil || len(list) != 1 || list[0].ID != root || more == "" {
		t.Errorf("list %+v, %q, %v", list, more, err)
	}
	if list, _, err = e.Conversations(t.Context(), ann, more, 1, nil); err != nil || len(list) != 1 || list[0].ID != alone {
		t.Errorf("second page %+v, %v", list, err)
	}
}

// An administrator is somebody else too: whatever one's role, the owner decides.
func TestNobodyElseFindsAConversation(t *testing.T) {
	e := engine(t, storetest.NewModel(nil), &openDoor{}, leaning(nil))
	root, _ := tell(t, e, ann, "", "one")
	tell(t, e, ann, root, "two")
	boss := auth.Principal{Kind: auth.User, ID: "u-boss", Roles: []auth.Role{auth.Administrator}}
	sameID := auth.Principal{Kind: auth.APIKey, ID: ann.ID, Scopes: []string{auth.ScopeAsk}}
	for _, p := range []auth.Principal{eve, boss, sameID} {
		tries := map[string]func(ID) error{
			"read":   func(id ID) error { _, _, err := e.Conversation(t.Context(), p, id, 0, 0); return err },
			"go on":  func(id ID) error { _, _, err := e.Begin(t.Context(), p, "", id, "leaning", "x"); return err },
			"rename": func(id ID) error { return e.Rename(t.Context(), p, id, "mine") },
			"delete": func(id ID) error { _, err := e.Delete(t.Context(), p, id); return err },
		}
		for what, try := range tries {
			theirs, none := try(root), try("000000000000000000000000no")
			if theirs == nil || none == nil || !errors.Is(theirs, auth.ErrDenied) && !errors.Is(theirs, ErrNotFound) {
				t.Errorf("%s by %s: %v", what, p.ID, theirs)
				continue
			}
			if theirs.Error() != none.Error() {
				t.Errorf("%s by %s: %q, but of one that is not there %q", what, p.ID, theirs, none)
			}
		}
		if list, _, err := e.Conversations(t.Context(), p, "", 10, nil); err != nil || len(list) != 0 {
			t.Errorf("%s lists %v, %v", p.ID, list, err)
		}
	}
}

func TestOneQuestionAtATime(t *testing.T) {
	hold := make(chan bool)
	st := storetest.NewModel(nil)
	e := engine(t, st, &openDoor{st: st}, leaning(hold))
	id, root, err := e.Begin(t.Context(), ann, "k1", "", "leaning", "one")
	if err != nil || id != root {
		t.Fatal(id, root, err)
	}
	if _, _, err := e.Begin(t.Context(), ann, "", root, "leaning", "two"); !errors.Is(err, ErrTurn) {
		t.Errorf("a second question while the first is answered: %v", err)
	}
	if err := e.Cancel(t.Context(), ann, id); err != nil {
		t.Fatal(err)
	}
	next, _, err := e.Begin(t.Context(), ann, "k2", root, "leaning", "two")
	if err != nil {
		t.Fatalf("after it was stopped: %v", err)
	}
	if again, in, err := e.Begin(t.Context(), ann, "k2", root, "leaning", "two"); err != nil || again != next || in != root {
		t.Errorf("sent again: %s in %s, %v; want %s", again, in, err, next)
	}
	hold <- true
	list := hear(t, e, ann, next, 0)
	if got := string(list[len(list)-1].Data); got != `["two"]` {
		t.Errorf("after a turn that was stopped it says %s", got)
	}
	if c, _, err := e.Conversation(t.Context(), ann, root, 0, 0); err != nil || c.Turns != 2 {
		t.Errorf("%d turns, %v", c.Turns, err)
	}
}

func TestOfTwoQuestionsAtOnceOneGoesOn(t *testing.T) {
	st := storetest.NewModel(nil)
	hold := make(chan bool)
	e, f := engine(t, st, &openDoor{st: st}, leaning(hold)), engine(t, st, &openDoor{st: st}, leaning(hold))
	f.cfg.Node = "n2"
	go func() {
		for range 3 {
			hold <- true
		}
	}()
	root, _ := tell(t, e, ann, "", "one")
	errs := make(chan error, 2)
	for _, at := range []*Engine{e, f} {
		go func() {
			_, _, err := at.Begin(t.Context(), ann, "", root, "leaning", "two")
			errs <- err
		}()
	}
	a, b := <-errs, <-errs
	if (a == nil) == (b == nil) && !(a == nil && b == nil) || a != nil && !errors.Is(a, ErrTurn) || b != nil && !errors.Is(b, ErrTurn) {
		t.Errorf("two at once: %v and %v", a, b)
	}
	c, _, err := e.Conversation(t.Context(), ann, root, 0, 0)
	want := 2
	if a == nil && b == nil {
		want = 3 // the first had ended before the second looked
	}
	if err != nil || c.Turns != want {
		t.Errorf("%d turns, %v, want %d", c.Turns, err, want)
	}
}

func TestATitleIsTheOwners(t *testing.T) {
	e := engine(t, storetest.NewModel(nil), &openDoor{}, leaning(nil))
	root, _ := tell(t, e, ann, "", "one")
	if err := e.Rename(t.Context(), ann, root, "  Retries \n and  timeouts "); err != nil {
		t.Fatal(err)
	}
	only := func(c Conversation) bool { return strings.Contains(c.Title, "Retries") }
	tell(t, e, ann, "", "other")
	if list, _, err := e.Conversations(t.Context(), ann, "", 10, only); err != nil || len(list) != 1 || list[0].Title != "Retries and timeouts" {
		t.Errorf("list %+v, %v", list, err)
	}
	for _, bad := range []string{"", " ", strings.Repeat("é", MaxTitleBytes/2+1)} {
		if err := e.Rename(t.Context(), ann, root, bad); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("title %q: %v", bad, err)
		}
	}
	for n := range 500 {
		if s := ShortTitle(strings.Repeat("ü", n)); len(s) > MaxTitleBytes || strings.Contains(s, "\ufffd") {
			t.Fatalf("the title of %d letters is %q", n, s)
		}
	}
}

// everything lists all keys that name a run or a conversation.
func everything(t *testing.T, st store.Store) (out []string) {
	t.Helper()
	err := st.View(t.Context(), store.Local, func(s store.Snapshot) error {
		for _, space := range []store.Space{runs, steps, byOwner, starts, leases, events, conversations, deletes} {
			for item, err := range s.Scan(space.Prefix(), "") {
				if err != nil {
					return err
				}
				out = append(out, string(item.Key))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestADeletedConversationIsGoneWhole(t *testing.T) {
	st := storetest.NewModel(nil)
	hold := make(chan bool)
	e := engine(t, st, &openDoor{st: st}, leaning(hold))
	go func() { hold <- true; hold <- true }()
	keep, _ := tell(t, e, ann, "", "keep")
	before := everything(t, st)
	root, _ := tell(t, e, ann, "", "one")
	second, _, err := e.Begin(t.Context(), ann, "key", root, "leaning", "two") // it is worked on while it is deleted
	if err != nil {
		t.Fatal(err)
	}
	n, err := e.Delete(t.Context(), ann, root)
	if err != nil || n != 2 {
		t.Fatalf("deleted %d turns, %v", n, err)
	}
	if left := everything(t, st); !slices.Equal(left, before) {
		t.Errorf("left: %q\nwant: %q", left, before)
	}
	for _, id := range []ID{root, second} {
		if _, err := e.Get(t.Context(), ann, id); err == nil {
			t.Errorf("run %s can be read", id)
		}
	}
	if _, err := e.Delete(t.Context(), ann, root); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("deleted again: %v", err)
	}
	if list, _, err := e.Conversations(t.Context(), ann, "", 10, nil); err != nil || len(list) != 1 || list[0].ID != keep {
		t.Errorf("list %+v, %v", list, err)
	}
}

// A node dies in the midst of deleting: nobody finds the conversation any more,
// and the next look takes away what is left.
func TestAHalfDeletedConversationIsFinished(t *testing.T) {
	for after := int64(1); after < 50; after++ {
		st := storetest.NewModel(nil)
		e := engine(t, st, &openDoor{st: st}, leaning(nil))
		root, _ := tell(t, e, ann, "", "one")
		tell(t, e, ann, root, "two")
		dying := &cutStore{Store: st}
		dying.left.Store(after)
		_, err := engine(t, dying, &openDoor{st: st}, leaning(nil)).Delete(t.Context(), ann, root)
		if _, _, err := e.Conversation(t.Context(), ann, root, 0, 0); err == nil {
			t.Errorf("killed after %d: it can still be read", after)
		}
		if list, _, err := e.Conversations(t.Context(), ann, "", 10, nil); err != nil || len(list) != 0 {
			t.Errorf("killed after %d: list %+v, %v", after, list, err)
		}
		if err := e.finishDeletes(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left := everything(t, st); len(left) != 0 {
			t.Errorf("killed after %d: left %q", after, left)
		}
		if err == nil {
			if after < 3 {
				t.Errorf("it takes %d transactions", after)
			}
			return
		}
	}
	t.Fatal("it never ends")
}

// cutStore lets some transactions through and then none.
type cutStore struct {
	store.Store
	left atomic.Int64
}

func (c *cutStore) Apply(ctx context.Context, tx *store.Tx) (store.Result, error) {
	if c.left.Add(-1) < 0 {
		return store.Result{}, errKilled
	}
	return c.Store.Apply(ctx, tx)
}

func (c *cutStore) Update(ctx context.Context, f func(*store.Update) error) (store.Result, error) {
	if c.left.Add(-1) < 0 {
		return store.Result{}, errKilled
	}
	return c.Store.Update(ctx, f)
}

func (c *cutStore) Submit(ctx context.Context, tx *store.Tx, class store.Class) store.Future {
	if c.left.Add(-1) < 0 {
		return cut{}
	}
	return c.Store.Submit(ctx, tx, class)
}

// cut is a transaction that was never sent.
type cut struct{ store.Future }

func (cut) Wait(context.Context) (store.Result, error) { return store.Result{}, errKilled }

func TestAConversationEndsWithItsLastTurn(t *testing.T) {
	st := storetest.NewModel(nil)
	e := engine(t, st, &openDoor{st: st}, leaning(nil))
	root, _ := tell(t, e, ann, "", "one")
	tell(t, e, ann, root, "two")
	now := time.Now().Add(e.cfg.Keep / 2)
	e.cfg.Now = func() time.Time { return now }
	third, _ := tell(t, e, ann, root, "three")
	now = now.Add(e.cfg.Keep/2 + time.Hour)
	for len(e.places) > 0 {
		time.Sleep(time.Millisecond)
	}
	if err := e.prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, turns, err := e.Conversation(t.Context(), ann, root, 0, 0)
	if err != nil || c.Turns != 3 || len(turns) != 1 || turns[0].ID != third || c.First.State != "" {
		t.Errorf("after the first turns were forgotten: %+v, %+v, %v", c, turns, err)
	}
	if _, got := tell(t, e, ann, root, "four"); got != `["four","three"]` {
		t.Errorf("it goes on with %s", got)
	}
	now = now.Add(e.cfg.Keep + time.Hour)
	for len(e.places) > 0 {
		time.Sleep(time.Millisecond)
	}
	if err := e.prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := everything(t, st); len(left) != 0 {
		t.Errorf("left %q", left)
	}
}

func TestConversationsHaveBounds(t *testing.T) {
	st := storetest.NewModel(nil)
	e := engine(t, st, &openDoor{st: st}, leaning(nil))
	root, _ := tell(t, e, ann, "", "one")
	full := kept{ID: root, keptRecord: keptRecord{Turns: make([]ID, MaxTurns)}}
	for i := range full.Turns {
		full.Turns[i] = root
	}
	tx := store.NewTx()
	if err := full.put(tx, ann); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Apply(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.Begin(t.Context(), ann, "", root, "leaning", "x"); !errors.Is(err, ErrFull) {
		t.Errorf("one turn too many: %v", err)
	}
	for n := 1; n < MaxConversations; {
		tx := store.NewTx()
		for range 500 {
			if n++; n > MaxConversations {
				break
			}
			k := kept{ID: ID(fmt.Sprintf("c%06d", n)), keptRecord: keptRecord{Turns: []ID{"x"}}}
			if err := k.put(tx, ann); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := st.Apply(t.Context(), tx); err != nil {
			t.Fatal(err)
		}
	}
	alone, _ := tell(t, e, ann, "", "by itself") // nothing is written down of it
	if _, _, err := e.Begin(t.Context(), ann, "", alone, "leaning", "x"); !errors.Is(err, ErrMany) {
		t.Errorf("one conversation too many: %v", err)
	}
	if err := e.Rename(t.Context(), ann, alone, "x"); !errors.Is(err, ErrMany) {
		t.Errorf("one title too many: %v", err)
	}
	if err := e.Rename(t.Context(), ann, root, "x"); err != nil {
		t.Errorf("one that is there: %v", err)
	}
}

// What a newer program wrote of a conversation stays when this one changes it.
func TestFieldsOfANewerProgramStay(t *testing.T) {
	st := storetest.NewModel(nil)
	e := engine(t, st, &openDoor{st: st}, leaning(nil))
	root, _ := tell(t, e, ann, "", "one")
	b, err := encode(map[uint64]any{1: 2, 3: time.Now(), 4: time.Now(), 5: []ID{root}, 99: "later"})
	if err != nil {
		t.Fatal(err)
	}
	tx := store.NewTx()
	tx.Put(kept{ID: root}.key(ann), b)
	if _, err := st.Apply(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	tell(t, e, ann, root, "two")
	if err := e.Rename(t.Context(), ann, root, "x"); err != nil {
		t.Fatal(err)
	}
	err = st.View(t.Context(), store.Local, func(s store.Snapshot) error {
		k, err := loadKept(s, ann, root)
		var later string
		if err == nil {
			err = decode(k.leftover[99], &later)
		}
		if err == nil && (later != "later" || len(k.Turns) != 2) {
			t.Errorf("%+v, %q", k, later)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
