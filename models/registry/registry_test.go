package registry_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/models/registry"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

func completion(name string) registry.Model {
	return registry.Model{Name: name, Kind: models.Completion, Licence: "MIT"}
}

func put(t *testing.T, r *registry.Registry, m registry.Model, text string) {
	t.Helper()
	if err := r.Put(context.Background(), m, text); err != nil {
		t.Fatal(err)
	}
}

func TestTheFirstModelOfAKindBecomesTheRoutesTarget(t *testing.T) {
	ctx, r := context.Background(), registry.New(storetest.NewModel(nil))
	if _, err := r.Resolve(ctx, registry.Default, models.Completion); !errors.Is(err, models.ErrNoModel) || !strings.Contains(err.Error(), "cloister model import") {
		t.Fatalf("without a model: %v", err)
	}
	put(t, r, completion("zeta"), "")
	put(t, r, completion("alpha"), "")
	put(t, r, registry.Model{Name: "vec", Kind: models.Embedding, Dimensions: 3}, "")
	for route, want := range map[string]string{registry.Default: "zeta", "alpha": "alpha"} {
		if m, err := r.Resolve(ctx, route, models.Completion); err != nil || m.Name != want {
			t.Errorf("Resolve(%q) = %q, %v; want %q", route, m.Name, err, want)
		}
	}
	if m, err := r.Resolve(ctx, registry.Embedding, models.Embedding); err != nil || m.Name != "vec" || m.Dimensions != 3 {
		t.Errorf("embedding route: %+v, %v", m, err)
	}
	if _, err := r.Resolve(ctx, "vec", models.Completion); !errors.Is(err, models.ErrInvalid) {
		t.Errorf("an embedding model asked to complete: %v", err)
	}
}

func TestARouteLeavesTheModelThatIsRemoved(t *testing.T) {
	ctx, r := context.Background(), registry.New(storetest.NewModel(nil))
	put(t, r, completion("one"), "")
	put(t, r, completion("two"), "")
	if err := r.Remove(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	if m, err := r.Resolve(ctx, registry.Default, models.Completion); err != nil || m.Name != "two" {
		t.Fatalf("after removing the target: %q, %v", m.Name, err)
	}
	if err := r.Remove(ctx, "two"); err != nil {
		t.Fatal(err)
	}
	if routes, err := r.Routes(ctx); err != nil || len(routes) != 0 {
		t.Fatalf("routes to nowhere: %v, %v", routes, err)
	}
	if err := r.Remove(ctx, "two"); !errors.Is(err, models.ErrNoModel) {
		t.Fatalf("removing what is not there: %v", err)
	}
}

func TestAcceptanceStaysWhileTheTermsAreTheSame(t *testing.T) {
	ctx, r := context.Background(), registry.New(storetest.NewModel(nil))
	m := completion("bound")
	m.Terms, m.Text = true, "aa"
	put(t, r, m, "the terms")
	if got, _ := r.Get(ctx, "bound"); got.Usable() {
		t.Fatal("usable before its terms are accepted")
	}
	if err := r.Accept(ctx, "bound", "someone"); err != nil {
		t.Fatal(err)
	}
	put(t, r, m, "the terms")
	if got, _ := r.Get(ctx, "bound"); !got.Usable() || got.Accepted != "someone" {
		t.Fatalf("imported again under the same terms: %+v", got)
	}
	if text, err := r.LicenceText(ctx, "bound"); err != nil || text != "the terms" {
		t.Fatalf("licence text %q, %v", text, err)
	}
	m.Text = "bb"
	put(t, r, m, "new terms")
	if got, _ := r.Get(ctx, "bound"); got.Usable() {
		t.Fatal("new terms count as accepted")
	}
}

func TestFieldsOfANewerVersionSurvive(t *testing.T) {
	ctx, st := context.Background(), storetest.NewModel(nil)
	r := registry.New(st)
	key := store.Space("H/model/").Key("m")
	value, err := cbor.Marshal(map[string]any{"V": 2, "Name": "m", "Kind": "completion", "Quota": 7})
	if err != nil {
		t.Fatal(err)
	}
	tx := store.NewTx()
	tx.Put(key, value)
	if _, err := st.Apply(ctx, tx); err != nil {
		t.Fatal(err)
	}
	if err := r.Accept(ctx, "m", "someone"); err != nil {
		t.Fatal(err)
	}
	err = st.View(ctx, store.Local, func(s store.Snapshot) error {
		item, err := s.Get(key)
		if err != nil {
			return err
		}
		var fields map[string]any
		if err := cbor.Unmarshal(item.Value, &fields); err != nil {
			return err
		}
		if fields["Quota"] != uint64(7) || fields["Accepted"] != "someone" || fields["V"] != uint64(2) {
			t.Errorf("rewritten as %v", fields)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
