package policy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/schema"
	"github.com/cloister-os/cloister/store/storetest"
)

// upgraded is a cluster as a program of format 2 began it.
func upgraded(t testing.TB, logger *slog.Logger) (*Policies, store.Store) {
	t.Helper()
	st := storetest.NewModel(nil)
	p, err := New(t.Context(), st, logger)
	if err != nil {
		t.Fatal(err)
	}
	texts, err := split(former)
	if err != nil {
		t.Fatal(err)
	}
	tx := store.NewTx()
	tx.Put(seeded.Key(), schema.MustEncode(stored{V: 1}))
	for _, text := range texts {
		if _, err := p.Put(tx, text); err != nil {
			t.Fatal(err)
		}
	}
	apply(t, st, tx)
	return p, st
}

func apply(t testing.TB, st store.Store, tx *store.Tx) {
	t.Helper()
	if _, err := st.Apply(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
}

func finalise(t testing.TB, st store.Store) {
	t.Helper()
	tx := store.NewTx()
	tx.Put(store.ClusterFormat, []byte(store.Number(store.FormatStarter)))
	apply(t, st, tx)
}

func remove(t testing.TB, p *Policies, st store.Store, id string) {
	t.Helper()
	tx := store.NewTx()
	if err := p.Remove(tx, id); err != nil {
		t.Fatal(err)
	}
	apply(t, st, tx)
}

func unrecorded(*store.Tx, Amended) error { return nil }

func amend(t testing.TB, p *Policies) Amended {
	t.Helper()
	done, err := p.Amend(t.Context(), unrecorded)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func texts(p *Policies) map[string]string {
	out := map[string]string{}
	for _, one := range p.List() {
		out[one.ID] = one.Text
	}
	return out
}

var (
	mayJoinDirectories = capability{person(auth.Administrator), auth.DirectoryManage, system, nil}
	mayRemember        = capability{agentFor(person(auth.Asker)), auth.MemoryWrite, auth.Memory("own", "u-1"), nil}
)

func (c capability) by(p *Policies) bool { return p.Decide(c.who, c.action, c.on, c.facts).Allow }

// TestAnUpgradedClusterGetsWhatANewOneHas once it is finalised, and not before.
func TestAnUpgradedClusterGetsWhatANewOneHas(t *testing.T) {
	p, st := upgraded(t, nil)
	before := texts(p)
	for _, format := range []uint64{1, 2} {
		tx := store.NewTx()
		tx.Put(store.ClusterFormat, []byte(store.Number(format)))
		apply(t, st, tx)
		if done := amend(t, p); !reflect.DeepEqual(done, Amended{}) || !reflect.DeepEqual(texts(p), before) {
			t.Fatalf("at format %d, which an older program reads, it did %+v", format, done)
		}
	}
	if mayJoinDirectories.by(p) || mayRemember.by(p) || !mayAsk(p) {
		t.Fatal("these are not the policies of the older program")
	}
	finalise(t, st)
	done := amend(t, p)
	fresh, _ := open(t)
	if !reflect.DeepEqual(texts(p), texts(fresh)) {
		t.Errorf("its policies differ from those of a new installation, after %+v", done)
	}
	if !mayJoinDirectories.by(p) || !mayRemember.by(p) {
		t.Error("nobody may use what is new")
	}
	want := Amended{
		Added: []string{
			"people-manage-their-memories", "administrators-manage-directories", "administrators-see-who-reads", "keys-see-who-reads",
			"keys-have-no-memories", "memories-are-private", "node-forgets-again",
		},
		Replaced: []string{"administrators-manage-sources", "key-without-scope-policy", "keys-never", "agents-work", "agents-never-administer"},
	}
	if !reflect.DeepEqual(done, want) {
		t.Errorf("it did %+v", done)
	}
	again, err := New(t.Context(), st, nil)
	if err != nil || !reflect.DeepEqual(texts(again), texts(fresh)) {
		t.Errorf("a node that starts reads other policies (%v)", err)
	}
}

func TestWhatSomebodyChangedOrRemovedIsLeftAlone(t *testing.T) {
	var log bytes.Buffer
	p, st := upgraded(t, slog.New(slog.NewTextHandler(&log, nil)))
	const (
		agents = `@id("agents-work") permit (principal is Agent, action == Action::"ask", resource);`
		own    = `@id("administrators-manage-directories") permit (principal in Role::"administrator", action == Action::"cluster.read", resource);`
		ask    = `@id("people-ask") permit (principal in Role::"builder", action == Action::"ask", resource);`
	)
	put(t, p, st, agents)          // changed, and there is a newer one
	put(t, p, st, own)             // of one's own, and a starter policy is called so now
	put(t, p, st, ask)             // changed, and nothing newer to miss
	remove(t, p, st, "keys-never") // there is a newer one
	remove(t, p, st, "people-see-status")
	finalise(t, st)
	done := amend(t, p)
	if want := []string{"administrators-manage-directories", "agents-work"}; !slices.Equal(done.Changed, want) {
		t.Errorf("left as changed: %v", done.Changed)
	}
	now := texts(p)
	if now["agents-work"] != agents || now["administrators-manage-directories"] != own || now["people-ask"] != ask {
		t.Error("what somebody wrote is gone")
	}
	if now["keys-never"] != "" || now["people-see-status"] != "" {
		t.Error("what somebody removed came back")
	}
	if now["memories-are-private"] == "" || mayJoinDirectories.by(p) {
		t.Errorf("after %+v", done)
	}
	if s := log.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "memories-are-private") || !strings.Contains(s, `left_as_changed="[administrators-manage-directories agents-work]"`) {
		t.Errorf("the administrator reads: %s", s)
	}
}

func TestPoliciesAreAmendedOnce(t *testing.T) {
	p, st := upgraded(t, nil)
	finalise(t, st)
	amend(t, p)
	remove(t, p, st, "administrators-manage-directories")
	const sources = `@id("administrators-manage-sources") forbid (principal, action == Action::"source.manage", resource);`
	put(t, p, st, sources)
	before := st.Applied()
	if done := amend(t, p); !reflect.DeepEqual(done, Amended{}) || st.Applied() != before {
		t.Errorf("the second time it did %+v", done)
	}
	if err := p.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := texts(p); now["administrators-manage-directories"] != "" || now["administrators-manage-sources"] != sources {
		t.Error("a starter policy came back")
	}
}

// TestANewInstallationHasNothingToAmend, and no older program can open it.
func TestANewInstallationHasNothingToAmend(t *testing.T) {
	p, st := open(t)
	err := st.View(t.Context(), store.Local, func(s store.Snapshot) error {
		format, err := store.FormatOf(s.Get)
		if format != store.Format {
			t.Errorf("it works at format %d", format)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	remove(t, p, st, "administrators-manage-directories")
	before := st.Applied()
	if done := amend(t, p); !reflect.DeepEqual(done, Amended{}) || st.Applied() != before {
		t.Errorf("it did %+v", done)
	}
}

// TestPoliciesThatAreThereAlreadyAreNoChange: what a program between the formats seeded
// stands there already.
func TestPoliciesThatAreThereAlreadyAreNoChange(t *testing.T) {
	p, st := upgraded(t, nil)
	list, err := split(Starter)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range list {
		put(t, p, st, text)
	}
	finalise(t, st)
	if done := amend(t, p); !reflect.DeepEqual(done, Amended{}) {
		t.Errorf("it did %+v", done)
	}
	remove(t, p, st, "administrators-manage-directories")
	amend(t, p)
	if mayJoinDirectories.by(p) {
		t.Error("a removed policy came back")
	}
}

// TestNoAmendmentLocksEverybodyOut: whoever may change policies before may do so
// afterwards, and an amendment that would end that is not made.
func TestNoAmendmentLocksEverybodyOut(t *testing.T) {
	p, st := upgraded(t, nil)
	finalise(t, st)
	before := texts(p)
	trap := former + "\n" + `@id("nobody") forbid (principal, action == Action::"policy.manage", resource);`
	if _, err := p.amend(t.Context(), former, trap, unrecorded); !errors.Is(err, errLockout) {
		t.Errorf("got %v", err)
	}
	if !reflect.DeepEqual(texts(p), before) {
		t.Error("it was made in part")
	}
	amend(t, p)
	for _, action := range []auth.Action{auth.PolicyRead, auth.PolicyManage} {
		if d := p.Decide(person(auth.Administrator), action, system, nil); !d.Allow {
			t.Errorf("%s: %+v", action, d)
		}
	}
}

// TestAnAmendmentThatIsNotRecordedIsNotMade, and one that meets another's change
// counts with it.
func TestAnAmendmentThatIsNotRecordedIsNotMade(t *testing.T) {
	p, st := upgraded(t, nil)
	finalise(t, st)
	before := texts(p)
	if _, err := p.Amend(t.Context(), func(*store.Tx, Amended) error { return errors.New("no record") }); err == nil {
		t.Error("it was made")
	}
	if !reflect.DeepEqual(texts(p), before) {
		t.Error("it was made in part")
	}
	const agents = `@id("agents-work") permit (principal is Agent, action == Action::"ask", resource);`
	meanwhile := false
	done, err := p.Amend(t.Context(), func(*store.Tx, Amended) error {
		if !meanwhile {
			meanwhile = true
			put(t, p, st, agents)
		}
		return nil
	})
	if err != nil || !slices.Equal(done.Changed, []string{"agents-work"}) || texts(p)["agents-work"] != agents {
		t.Errorf("a change at the same moment was lost: %+v, %v", done, err)
	}
}

// TestTheLeaderAmendsWithoutARestart as soon as the cluster is finalised; the other
// nodes wait for it.
func TestTheLeaderAmendsWithoutARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leader, st := upgraded(t, nil)
		other, err := New(t.Context(), st, nil)
		if err != nil {
			t.Fatal(err)
		}
		records := 0
		ended := make(chan error, 2)
		for p, leads := range map[*Policies]bool{leader: true, other: false} {
			go func() {
				ended <- p.RunAmend(t.Context(), func() bool { return leads }, func(*store.Tx, Amended) error {
					if !leads {
						t.Error("a node that does not lead amends")
					}
					records++
					return nil
				})
			}()
		}
		synctest.Wait()
		if mayJoinDirectories.by(leader) {
			t.Fatal("it was amended before it was finalised")
		}
		finalise(t, st)
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if records != 1 || !mayJoinDirectories.by(leader) {
			t.Errorf("%d amendments", records)
		}
	})
}

// TestTroubleIsToldOnceAndTriedAgain: a node whose disk is full, say.
func TestTroubleIsToldOnceAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p, st := upgraded(t, slog.New(slog.NewTextHandler(&log, nil)))
		finalise(t, st)
		tries := 0
		err := p.RunAmend(t.Context(), func() bool { return true }, func(*store.Tx, Amended) error {
			if tries++; tries < 4 {
				return store.ErrReadOnly
			}
			return nil
		})
		if err != nil || tries != 4 || !mayJoinDirectories.by(p) {
			t.Errorf("%d tries, %v", tries, err)
		}
		if n := strings.Count(log.String(), "could not be added yet"); n != 1 {
			t.Errorf("it was told %d times: %s", n, log.String())
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		waiting, _ := upgraded(t, nil)
		if err := waiting.RunAmend(ctx, func() bool { return true }, unrecorded); err != nil {
			t.Errorf("a node that ends says %v", err)
		}
	})
}

// TestTheFormerStarterPoliciesNeverChange: they are what programs of the formats
// before wrote, so that a policy which nobody touched is known.
func TestTheFormerStarterPoliciesNeverChange(t *testing.T) {
	sum := sha256.Sum256([]byte(former))
	if hex.EncodeToString(sum[:]) != "ddb76900b322d70546b543c9c98a45c12b6d8137ac9a03af772b4275d1af8c54" {
		t.Error("starter-2.cedar is not what was written any more")
	}
}
