package connect_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/graph/connect/connecttest"
	"github.com/cloister-os/cloister/store"
)

const finance = "corp/0e6bd2a5-6d0c-4a3a-9c52-2f7b1d9a5b11"

func TestANewSourceNamesItsAudience(t *testing.T) {
	b := connecttest.Open(t, nil, &system{})
	src, err := b.Service.Add(t.Context(), guardtest.Admin(), source("a"))
	if err != nil || !slices.Equal(src.Audience, []string{"user"}) {
		t.Fatalf("%q %v", src.Audience, err)
	}
	wrong := source("b")
	wrong.Audience = []string{"finance"}
	if _, err := b.Service.Add(t.Context(), guardtest.Admin(), wrong); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "finance") {
		t.Errorf("an unknown role: %v", err)
	}
}

// TestAChangeOfAudienceCountsAtOnceAndIsOnRecord takes a person out and lets
// another in.
func TestAChangeOfAudienceCountsAtOnceAndIsOnRecord(t *testing.T) {
	b := connecttest.Open(t, nil, &system{})
	b.Add("system", "a", "/a")
	outsider := guardtest.Asker()
	insider := guardtest.Asker()
	insider.ID, insider.Groups = "u-member", []string{finance}
	sees := func(p auth.Principal) bool {
		_, err := b.Get(t.Context(), p, "a")
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		list, lerr := b.List(t.Context(), p)
		if lerr != nil || (len(list) == 1) != (err == nil) {
			t.Errorf("%s: list %v, get %v (%v)", p.ID, list, err, lerr)
		}
		return err == nil
	}
	if !sees(outsider) || !sees(insider) {
		t.Fatal("the default lets everybody read who may ask")
	}
	if _, err := b.SetAudience(t.Context(), guardtest.Admin(), "a", []string{"group:" + finance}); err != nil {
		t.Fatal(err)
	}
	if sees(outsider) || !sees(insider) || sees(guardtest.Admin()) {
		t.Errorf("the outsider %v, the member %v, the administrator %v", sees(outsider), sees(insider), sees(guardtest.Admin()))
	}
	// Who manages it may take it on, though they cannot read it; that is on record.
	if _, err := b.SetAudience(t.Context(), guardtest.Admin(), "a", []string{finance, "u-admin"}); err != nil || !sees(guardtest.Admin()) {
		t.Errorf("%v", err)
	}
	var got []string
	for _, r := range b.House.Records(t) {
		if r.Detail["act"] == "audience" {
			got = append(got, fmt.Sprint(r.Kind, " ", r.Actor.ID, " ", r.Resource.ID, " +", r.Detail["added"], " -", r.Detail["removed"]))
		}
	}
	want := []string{"intent u-admin a +[" + finance + "] -[user]", "intent u-admin a +[u-admin] -[]"}
	if !slices.Equal(got, want) {
		t.Errorf("on record: %q, want %q", got, want)
	}
}

func TestWhoMayNotManageASourceChangesNoAudience(t *testing.T) {
	b := connecttest.Open(t, nil, &system{})
	b.Add("system", "a", "/a")
	for _, p := range []auth.Principal{guardtest.Asker(), guardtest.Auditor(), guardtest.KeyFor("a"), guardtest.AgentFor(guardtest.Admin())} {
		if _, err := b.SetAudience(t.Context(), p, "a", []string{"u-asker"}); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s: %v", p.ID, err)
		}
		if _, err := b.Readers(t.Context(), p); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s learns who reads what: %v", p.ID, err)
		}
	}
	if _, err := b.SetAudience(t.Context(), guardtest.Admin(), "b", []string{"user"}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an unknown source: %v", err)
	}
}

// TestReadersTellsWhoAndWhy compares what is told with what happens.
func TestReadersTellsWhoAndWhy(t *testing.T) {
	b := connecttest.Open(t, nil, &system{})
	set := func(name string, audience ...string) {
		b.Add("system", name, "/"+name)
		if _, err := b.SetAudience(t.Context(), guardtest.Admin(), name, audience); err != nil {
			t.Fatal(err)
		}
	}
	set("all", "user")
	set("team", finance, "u-x")
	set("nobody", "auditor")
	set("forbidden", "user")
	b.House.Put(t, `@id("shut") forbid (principal, action == Action::"source.read", resource == Source::"forbidden");`)
	old(t, b, "old")
	got, err := b.Readers(t.Context(), guardtest.Admin())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"all":       "role user true [] [people-read-sources]",
		"team":      "group " + finance + " true [user] [people-read-sources]; person u-x true [user] [people-read-sources]",
		"nobody":    "role auditor false [] [default-deny]; nobody",
		"forbidden": "role user false [] [shut]; nobody",
		"old":       "role administrator true [] [people-read-sources]; role builder true [] [people-read-sources]; role user true [] [people-read-sources]; role approver true [] [people-read-sources]; everyone",
	}
	for _, r := range got.Sources {
		var text []string
		for _, x := range r.Readers {
			text = append(text, fmt.Sprint(x.Kind, " ", x.ID, " ", x.Reads, " ", x.Roles, " ", x.Policies))
		}
		if r.Nobody {
			text = append(text, "nobody")
		}
		if r.Everyone {
			text = append(text, "everyone")
		}
		if s := strings.Join(text, "; "); s != want[r.Source.Name] {
			t.Errorf("%s: %s\nwant %s", r.Source.Name, s, want[r.Source.Name])
		}
		delete(want, r.Source.Name)
	}
	if len(want) > 0 || len(got.Orphans) > 0 {
		t.Errorf("not told of: %v; orphans %v", want, got.Orphans)
	}
	one, _, err := b.ReadersOf(t.Context(), guardtest.Admin(), "team")
	if err != nil || one.Source.Name != "team" {
		t.Errorf("%+v %v", one, err)
	}
	if _, _, err := b.ReadersOf(t.Context(), guardtest.Admin(), "absent"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an absent source: %v", err)
	}
}

// old puts the definition of a source as it was before audiences had to be named.
func old(t *testing.T, b *connecttest.Bench, name string) {
	t.Helper()
	tx := store.NewTx()
	if err := graph.PutSource(tx, graph.Source{Name: name, Kind: "system", Path: "/" + name}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Store.Apply(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	if list, err := b.List(t.Context(), guardtest.Asker()); err != nil || !slices.ContainsFunc(list, func(s connect.Status) bool { return s.Name == name }) {
		t.Errorf("a source without an audience is closed: %v %v", list, err)
	}
}

// TestRecordsThatNobodySeesAreCounted leaves records without their source, and a
// source without a reader.
func TestRecordsThatNobodySeesAreCounted(t *testing.T) {
	sys := &system{}
	b := connecttest.Open(t, nil, sys)
	for _, name := range []string{"left", "shut"} {
		sys.set(func(ctx context.Context, sink *connect.Sink) error {
			return sink.Put(ctx, graph.Assertion{Record: graph.Record{ID: graph.RecordID{Source: name, Stream: "document", Native: "x.md"}, Title: "X"}})
		})
		b.Add("system", name, "/"+name)
	}
	if _, err := b.SetAudience(t.Context(), guardtest.Admin(), "shut", []string{"operator"}); err != nil {
		t.Fatal(err)
	}
	tx := store.NewTx()
	tx.Delete(graph.SpaceSource.Key("left"))
	if _, err := b.Store.Apply(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	got, err := b.Readers(t.Context(), guardtest.Admin())
	if err != nil || len(got.Orphans) != 1 || got.Orphans[0] != (connect.Hidden{Source: "left", Records: 1}) {
		t.Errorf("orphans %+v %v", got.Orphans, err)
	}
	if len(got.Sources) != 1 || !got.Sources[0].Nobody || got.Sources[0].Records != 1 {
		t.Errorf("%+v", got.Sources)
	}
}
