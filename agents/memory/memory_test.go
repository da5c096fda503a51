package memory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/store"
)

// house is a Service with a clock that the test moves.
type house struct {
	*guardtest.House
	*Service
	t      *testing.T
	now    time.Time
	ledger *Ledger
	dir    string
}

func open(t *testing.T) *house {
	t.Helper()
	keys, err := seal.Open(filepath.Join(t.TempDir(), "seal"))
	if err != nil {
		t.Fatal(err)
	}
	h := &house{House: guardtest.Open(t, nil), t: t, now: time.Date(2026, 3, 12, 15, 0, 0, 0, time.UTC), dir: t.TempDir()}
	if h.ledger, err = OpenLedger(filepath.Join(h.dir, "forgotten")); err != nil {
		t.Fatal(err)
	}
	h.Service, err = New(Config{Store: h.House.Store, Door: h.Guard, Sealer: keys, Ledger: h.ledger, Now: func() time.Time { return h.now }})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

var ada, ben = guardtest.Person("corp/ada", auth.Asker), guardtest.Person("corp/ben", auth.Asker)

// tell says a fact in a run, as the agent that answers does.
func (h *house) tell(p auth.Principal, text, run string) Memory {
	h.t.Helper()
	id, err := h.Hold(h.t.Context(), p, "", text)
	if err != nil {
		h.t.Fatal(err)
	}
	m, err := h.Keep(h.t.Context(), guardtest.AgentFor(p), id, run)
	if err != nil {
		h.t.Fatal(err)
	}
	h.now = h.now.Add(time.Minute)
	return m
}

func (h *house) recalled(p auth.Principal, question string) []string {
	h.t.Helper()
	found, err := h.Recall(h.t.Context(), guardtest.AgentFor(p), question, "r-2")
	if err != nil {
		h.t.Fatal(err)
	}
	var out []string
	for _, f := range found {
		out = append(out, f.ID)
	}
	return out
}

// holding lists the keys of the store whose values hold the text, and the audit
// leaves, as far back as the store goes.
func (h *house) holding(text string) []string {
	h.t.Helper()
	var out []string
	for v := store.Version(1); v <= h.House.Store.Applied(); v++ {
		for _, prefix := range []store.Key{"H/", "S/"} {
			err := h.House.Store.View(h.t.Context(), store.At(v), func(s store.Snapshot) error {
				for item, err := range s.Scan(prefix, "") {
					if err != nil {
						return err
					}
					if bytes.Contains(append([]byte(item.Key), item.Value...), []byte(text)) {
						out = append(out, fmt.Sprintf("%q at %d", item.Key, v))
					}
				}
				return nil
			})
			if err != nil && !errors.Is(err, store.ErrCompacted) {
				h.t.Fatal(err)
			}
		}
	}
	for _, rec := range h.Records(h.t) {
		leaf, err := rec.Leaf()
		if err != nil {
			h.t.Fatal(err)
		}
		if bytes.Contains(leaf, []byte(text)) {
			out = append(out, "the audit record of "+string(rec.Action))
		}
	}
	return out
}

func TestAFactIsKeptUsedExplainedAndForgotten(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	m := h.tell(ada, "Please remember that our release day is Canarythursday.", "r-1")
	if m.Words != "our release day is Canarythursday" || m.Evidence.Run != "r-1" || !m.Current() {
		t.Fatalf("%+v", m)
	}
	if said := m.Evidence.Said[m.Evidence.Start:m.Evidence.End]; said != m.Words {
		t.Errorf("the evidence is %q", said)
	}
	if got := m.Sentence(); got != "You told me on 12 March 2026: our release day is Canarythursday." {
		t.Error(got)
	}
	if got := h.recalled(ada, "what is our release day?"); len(got) != 1 || got[0] != m.ID {
		t.Fatalf("recalled %v", got)
	}
	if got := h.recalled(ada, "who changed retry.go?"); got != nil {
		t.Errorf("an unrelated question recalled %v", got)
	}
	for range 2 { // the step is done again after a crash
		if _, err := h.Use(ctx, guardtest.AgentFor(ada), "r-2", m.ID); err != nil {
			t.Fatal(err)
		}
	}
	why, err := h.Get(ctx, ada, m.ID)
	if err != nil || why.Uses != 1 || !why.Last.Equal(h.now) || len(why.Chain) != 1 {
		t.Fatalf("%+v, %v", why, err)
	}
	if n, err := h.Forget(ctx, ada, m.ID); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := h.Get(ctx, ada, m.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a forgotten memory: %v", err)
	}
	if got, err := h.Open(ctx, ada, m.ID); len(got) != 0 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if got := h.recalled(ada, "what is our release day?"); got != nil {
		t.Errorf("a forgotten memory was recalled: %v", got)
	}
	if list, err := h.List(ctx, ada); len(list) != 0 || err != nil {
		t.Errorf("%v, %v", list, err)
	}
	if !h.ledger.Has(ada.ID, m.ID) {
		t.Error("the ledger does not know what was forgotten")
	}
}

// TestNoVersionHoldsTheWords: neither before nor after it is forgotten does any
// version of any key, or the audit record, hold a memory in clear, or a digest by
// which it could be guessed.
func TestNoVersionHoldsTheWords(t *testing.T) {
	h := open(t)
	const text = "our release day is Canarythursday"
	m := h.tell(ada, text, "r-1")
	if _, err := h.Edit(t.Context(), ada, m.ID, "", "our release day is Canaryfriday"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Add(t.Context(), ada, "once", "the codename is Canaryheron"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.ForgetAll(t.Context(), ada); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(text))
	for _, word := range []string{"Canary", string(sum[:]), fmt.Sprintf("%x", sum)} {
		if where := h.holding(word); where != nil {
			t.Errorf("%x stands in %v", word, where)
		}
	}
	if where := h.holding(ada.ID); len(where) == 0 {
		t.Error("the person's id was not found either, so the search proves nothing")
	}
}

// TestThePastIsSealedOnceForgotten: the sealed bytes of the past are there, and the
// key that would open them is not.
func TestThePastIsSealedOnceForgotten(t *testing.T) {
	h := open(t)
	m := h.tell(ada, "our release day is Thursday", "r-1")
	then := h.House.Store.Applied()
	at := func(v store.ReadAt) (err error) {
		return h.House.Store.View(t.Context(), v, func(snap store.Snapshot) error {
			item, err := snap.Get(memories.Key(ada.ID, m.ID))
			if err != nil {
				return err
			}
			return h.House.Store.View(t.Context(), store.Local, func(now store.Snapshot) error {
				_, err := h.unseal(now, ada.ID, m.ID, item)
				return err
			})
		})
	}
	if err := at(store.At(then)); err != nil {
		t.Fatalf("before: %v", err)
	}
	if _, err := h.Forget(t.Context(), ada, m.ID); err != nil {
		t.Fatal(err)
	}
	if err := at(store.At(then)); !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "forgotten") {
		t.Errorf("after: %v", err)
	}
}

func TestANewerFactTakesTheOldersPlace(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	first := h.tell(ada, "our release day is Thursday", "r-1")
	second := h.tell(ada, "our release day is Friday", "r-2")
	other := h.tell(ada, "our release manager is Ines", "r-3")
	if second.Supersedes != first.ID || other.Supersedes != "" {
		t.Fatalf("%+v, %+v", second, other)
	}
	if got := h.recalled(ada, "which day do we release?"); len(got) != 1 || got[0] != second.ID {
		t.Errorf("recalled %v", got)
	}
	why, err := h.Get(ctx, ada, first.ID)
	if err != nil || why.SupersededBy != second.ID || len(why.Chain) != 2 || why.Chain[0].ID != second.ID {
		t.Errorf("%+v, %v", why, err)
	}
	if _, err := h.Edit(ctx, ada, first.ID, "", "our release day is Monday"); !errors.Is(err, ErrOld) {
		t.Errorf("an old one was changed: %v", err)
	}
	if err := h.Undo(ctx, ada, first.ID); !errors.Is(err, ErrOld) {
		t.Errorf("an old one was undone: %v", err)
	}
	if err := h.Undo(ctx, ada, second.ID); err != nil {
		t.Fatal(err)
	}
	if got := h.recalled(ada, "which day do we release?"); len(got) != 1 || got[0] != first.ID {
		t.Errorf("after undo %v", got)
	}
	edited, err := h.Edit(ctx, ada, first.ID, "", "our release day is Monday")
	if err != nil || edited.DerivedFrom != first.ID || edited.Supersedes != first.ID || edited.Evidence.Run != "" {
		t.Fatalf("%+v, %v", edited, err)
	}
	if n, err := h.Forget(ctx, ada, edited.ID); n != 2 || err != nil {
		t.Errorf("forgot %d, %v: the whole fact is two", n, err)
	}
	if list, err := h.List(ctx, ada); len(list) != 1 || err != nil || list[0].ID != other.ID {
		t.Errorf("%v, %v", list, err)
	}
}

func TestTwoAtOnceDoNotBothTakeAPlace(t *testing.T) {
	h := open(t)
	h.tell(ada, "our release day is Monday", "r-1")
	var all sync.WaitGroup
	for _, day := range []string{"Tuesday", "Wednesday", "Thursday", "Friday"} {
		all.Go(func() {
			if _, err := h.Add(context.Background(), ada, "", "our release day is "+day); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	list, err := h.List(t.Context(), ada)
	if err != nil || len(list) != 5 {
		t.Fatalf("%d, %v", len(list), err)
	}
	current, taken := 0, map[string]bool{}
	for _, m := range list {
		if m.Current() {
			current++
		}
		if m.Supersedes != "" && taken[m.Supersedes] {
			t.Errorf("two took the place of %s", m.Supersedes)
		}
		taken[m.Supersedes] = true
	}
	if current != 1 {
		t.Errorf("%d are in force", current)
	}
}

func TestNobodyElseSeesOrUsesIt(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	m := h.tell(ada, "our release day is Thursday", "r-1")
	everything := `@id("everything") permit (principal, action, resource);`
	for _, wide := range []bool{false, true} {
		if wide {
			h.Put(t, everything) // not even by a policy
		}
		for _, p := range []auth.Principal{ben, guardtest.Admin(), guardtest.Auditor(), guardtest.AgentFor(ben), guardtest.Key(auth.Scopes()), guardtest.AgentFor(guardtest.KeyFor()), guardtest.Node()} {
			if got, err := h.Open(ctx, p, m.ID); len(got) > 0 {
				t.Errorf("%s %s opened it: %v", p.Kind, p.ID, err)
			}
			if got, err := h.List(ctx, p); len(got) > 0 {
				t.Errorf("%s %s listed it: %v", p.Kind, p.ID, err)
			}
			if got, _ := h.Recall(ctx, p, "what is our release day?", "r"); got != nil {
				t.Errorf("%s %s was answered from it", p.Kind, p.ID)
			}
			if _, err := h.Get(ctx, p, m.ID); err == nil {
				t.Errorf("%s %s saw it", p.Kind, p.ID)
			}
			if _, err := h.Edit(ctx, p, m.ID, "", "our release day is never"); err == nil {
				t.Errorf("%s %s changed it", p.Kind, p.ID)
			}
			if _, err := h.Forget(ctx, p, m.ID); err == nil {
				t.Errorf("%s %s forgot it", p.Kind, p.ID)
			}
			if err := h.Undo(ctx, p, m.ID); err == nil {
				t.Errorf("%s %s undid it", p.Kind, p.ID)
			}
			if _, err := h.Keep(ctx, p, m.ID, "r"); err == nil {
				t.Errorf("%s %s kept it", p.Kind, p.ID)
			}
			if _, err := h.Use(ctx, p, "r", m.ID); err == nil {
				if why, err := h.Get(ctx, ada, m.ID); err != nil || why.Uses != 0 {
					t.Errorf("%s %s used it: %+v, %v", p.Kind, p.ID, why, err)
				}
			}
			if n, _ := h.ForgetAll(ctx, p); n > 0 {
				t.Errorf("%s %s forgot all", p.Kind, p.ID)
			}
		}
	}
	if why, err := h.Get(ctx, ada, m.ID); err != nil || why.Words != m.Words || why.Uses != 0 {
		t.Errorf("%+v, %v", why, err)
	}
	if _, err := h.Hold(ctx, guardtest.KeyFor(), "", "our release day is Friday"); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("a key: %v", err)
	}
	if _, err := h.Add(ctx, guardtest.Auditor(), "", "our release day is Friday"); err != nil {
		t.Logf("the auditor, by the policy that permits everything: %v", err)
	}
}

func TestWhoMayNotHaveMemoriesIsRefusedOnRecord(t *testing.T) {
	h := open(t)
	before := len(h.Records(t))
	if _, err := h.Add(t.Context(), guardtest.Auditor(), "", "our release day is Friday"); !errors.Is(err, auth.ErrDenied) {
		t.Fatal(err)
	}
	if _, err := h.List(t.Context(), guardtest.Auditor()); !errors.Is(err, auth.ErrDenied) {
		t.Fatal(err)
	}
	if n := len(h.Records(t)) - before; n != 2 {
		t.Errorf("%d records of two refusals", n)
	}
	if h.May(t.Context(), guardtest.Auditor(), auth.MemoryRead) || !h.May(t.Context(), ada, auth.MemoryRead) {
		t.Error("May does not say what the policy says")
	}
}

func TestSecretsAreRefused(t *testing.T) {
	h := open(t)
	for _, text := range []string{
		"my key is cl_0123456789abcdef_0123456789abcdefABCDEF", "remember that the root password is swordfish",
		"remember that our API key is 99", "my pin is 1234", "the passphrase for the vault is tulip", "remember that the deploy token is ghp_0123456789012345678901234567890123456789",
	} {
		if _, err := h.Add(t.Context(), ada, "", text); !errors.Is(err, ErrSecret) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"our database password rotation is every 90 days", "the spare key is with reception", "our password manager is Vault"} {
		if _, err := h.Add(t.Context(), ada, "", text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"", "when do we release?", "remember " + strings.Repeat("x", MaxBytes+1), "one\ntwo"} {
		if _, err := h.Add(t.Context(), ada, "", text); !errors.Is(err, ErrWords) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestARepeatedRequestRemembersOnce(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	a, err := h.Hold(ctx, ada, "key-1", "our release day is Thursday")
	if err != nil {
		t.Fatal(err)
	}
	b, err := h.Hold(ctx, ada, "key-1", "our release day is Thursday")
	if err != nil || a != b {
		t.Fatalf("%q, %q, %v", a, b, err)
	}
	if list, err := h.List(ctx, ada); len(list) != 0 || err != nil {
		t.Errorf("what is only held was listed: %v, %v", list, err)
	}
	for range 2 {
		if m, err := h.Keep(ctx, guardtest.AgentFor(ada), a, "r-1"); err != nil || m.Evidence.Run != "r-1" {
			t.Fatalf("%+v, %v", m, err)
		}
	}
	if list, err := h.List(ctx, ada); len(list) != 1 || err != nil {
		t.Errorf("%v, %v", list, err)
	}
	c, err := h.Hold(ctx, ben, "key-1", "our release day is Monday")
	if err != nil || c == a {
		t.Errorf("another's key is another: %q, %v", c, err)
	}
}

func TestWhatIsOverIsNotUsed(t *testing.T) {
	h := open(t)
	m := h.tell(ada, "I am on call this week", "r-1")
	if got := h.recalled(ada, "who is on call?"); len(got) != 1 {
		t.Fatalf("recalled %v", got)
	}
	if got := m.Sentence(); got != "You told me on 12 March 2026: I am on call this week (until 15 March 2026)." {
		t.Error(got)
	}
	h.now = h.now.AddDate(0, 0, 7)
	if got := h.recalled(ada, "who is on call?"); got != nil {
		t.Errorf("recalled what is over: %v", got)
	}
	if list, err := h.List(t.Context(), ada); len(list) != 1 || err != nil || !list[0].Over(h.now) {
		t.Errorf("%v, %v", list, err)
	}
}

// TestTheMostThatIsKept fills a person's memory, and is quick about it.
func TestTheMostThatIsKept(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	for from := 0; from < MaxPerPerson; from += 250 {
		_, err := h.House.Store.Update(ctx, func(u *store.Update) error {
			for i := from; i < from+250; i++ {
				m := Memory{ID: fmt.Sprintf("m%04d", i), Evidence: Evidence{Said: fmt.Sprintf("our gauge%d is %d", i, i)}, Created: h.now, Attribute: fmt.Sprintf("gauge%d", i), Value: fmt.Sprint(i), slot: fmt.Sprint(i)}
				m.Evidence.End = len(m.Evidence.Said)
				o, err := h.fresh(u, ada.ID, m)
				if err == nil {
					err = o.put(u, ada.ID)
				}
				if err != nil {
					return err
				}
			}
			return putHead(u, ada.ID, headRow{V: 1, Count: from + 250})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Add(ctx, ada, "", "our release day is Thursday"); !errors.Is(err, ErrFull) {
		t.Fatalf("one more: %v", err)
	}
	if got := h.recalled(ada, "what is our gauge731?"); len(got) != 1 || got[0] != "m0731" {
		t.Errorf("recalled %v", got)
	}
	if n, err := h.ForgetAll(ctx, ada); n != MaxPerPerson || err != nil {
		t.Fatal(n, err)
	}
	if _, err := h.Add(ctx, ada, "", "our release day is Thursday"); err != nil {
		t.Error(err)
	}
}

func TestWhatWasPutAsideAndNeverKeptIsDropped(t *testing.T) {
	h := open(t)
	id, err := h.Hold(t.Context(), ada, "", "our release day is Thursday")
	if err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(2 * time.Hour)
	h.tell(ada, "my desk is 4.12", "r-2")
	if _, err := h.Keep(t.Context(), ada, id, "r-1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// TestARestoreDoesNotBringBackWhatWasForgotten puts back the very rows that were
// there before, as a restore of an older backup does.
func TestARestoreDoesNotBringBackWhatWasForgotten(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	kept := h.tell(ada, "my desk is 4.12", "r-0")
	m := h.tell(ada, "our release day is Thursday", "r-1")
	var rows []store.Item
	err := h.House.Store.View(ctx, store.Local, func(s store.Snapshot) error {
		for _, k := range []store.Key{memories.Key(ada.ID, m.ID), keys.Key(ada.ID, m.ID), heads.Key(ada.ID)} {
			item, err := s.Get(k)
			if err != nil {
				return err
			}
			rows = append(rows, item)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Forget(ctx, ada, m.ID); err != nil {
		t.Fatal(err)
	}
	tx := store.NewTx()
	for _, item := range rows {
		tx.Put(item.Key, item.Value)
	}
	tx.Delete(goneRows.Key(ada.ID, m.ID))
	if _, err := h.House.Store.Apply(ctx, tx); err != nil {
		t.Fatal(err)
	}
	blind, err := New(Config{Store: h.House.Store, Door: h.Guard, Sealer: h.Service.cfg.Sealer, Now: func() time.Time { return h.now }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := blind.Get(ctx, ada, m.ID); err != nil {
		t.Fatalf("without the ledger it is not back, so the test proves nothing: %v", err)
	}
	if _, err := h.Get(ctx, ada, m.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("with the ledger it can be read before it is forgotten again: %v", err)
	}
	if n, err := h.ForgetAgain(ctx, "n1"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := blind.Get(ctx, ada, m.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it is still there: %v", err)
	}
	if list, err := blind.List(ctx, ada); err != nil || len(list) != 1 || list[0].ID != kept.ID {
		t.Errorf("%v, %v", list, err)
	}
	if n, err := h.ForgetAgain(ctx, "n1"); n != 0 || err != nil {
		t.Error(n, err)
	}
}

func TestTheLedgerFollowsOtherNodesAndIsCopied(t *testing.T) {
	h := open(t)
	m := h.tell(ada, "our release day is Thursday", "r-1")
	backups := t.TempDir()
	path, copied := filepath.Join(t.TempDir(), "forgotten"), filepath.Join(backups, "forgotten")
	other, err := OpenLedger(path, copied, filepath.Join(backups, "not", "there", "forgotten"))
	if err != nil {
		t.Fatal(err)
	}
	far, err := New(Config{Store: h.House.Store, Door: h.Guard, Sealer: h.Service.cfg.Sealer, Ledger: other})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- far.Run(ctx) }()
	if _, err := h.Forget(t.Context(), ada, m.ID); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); !other.Has(ada.ID, m.ID); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the other node never noted it")
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, copied} {
		if l, err := OpenLedger(p); err != nil || !l.Has(ada.ID, m.ID) || l.Has(ben.ID, m.ID) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestALedgerWhoseEndACrashCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forgotten")
	l, err := OpenLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b"} {
		if err := l.Note("corp/ada", id); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b[:len(b)-3], 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err = OpenLedger(path); err != nil || !l.Has("corp/ada", "a") || l.Has("corp/ada", "b") {
		t.Fatalf("%v", err)
	}
	if err := l.Note("corp/ada", "c"); err != nil {
		t.Fatal(err)
	}
	if l, err = OpenLedger(path); err != nil || !l.Has("corp/ada", "c") {
		t.Fatalf("%v", err)
	}
	if err := os.WriteFile(path, []byte("no line of a ledger\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLedger(path); err == nil {
		t.Error("a damaged ledger was read")
	}
}
