package connect_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/graph/connect/connecttest"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

// system is a connector to a system that a test plays.
type system struct {
	mu    sync.Mutex
	scans int
	scan  func(ctx context.Context, sink *connect.Sink) error
	check error
}

func (*system) Kind() string { return "system" }

func (s *system) Check(_ context.Context, permit *guard.Permit, src graph.Source) error {
	return errors.Join(permit.Covers(auth.SourceFetch, graph.SourceResource(src)), s.check)
}

func (s *system) Scan(ctx context.Context, permit *guard.Permit, src graph.Source, sink *connect.Sink) error {
	if err := permit.Covers(auth.SourceFetch, graph.SourceResource(src)); err != nil {
		return err
	}
	s.mu.Lock()
	s.scans++
	scan := s.scan
	s.mu.Unlock()
	if scan == nil {
		return sink.Put(ctx, thing(src.Name, "x"))
	}
	return scan(ctx, sink)
}

func thing(source, native string) graph.Assertion {
	return graph.Assertion{
		Record:     graph.Record{ID: graph.RecordID{Source: source, Stream: "thing", Native: native}, Entity: graph.NewEntityID("thing", native), Type: "Thing", Rule: "test/1"},
		Properties: []graph.PropertyClaim{{Property: graph.Name, Value: native}},
	}
}

func (s *system) set(scan func(ctx context.Context, sink *connect.Sink) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scan = scan
}

func (s *system) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scans
}

func source(name string) graph.Source {
	return graph.Source{Name: name, Kind: "system", Path: "/somewhere"}
}

func TestBadDefinitionsAreOneClearSentence(t *testing.T) {
	b := connecttest.Open(t, nil, &system{})
	for what, src := range map[string]graph.Source{
		"no name":            source(""),
		"control character":  source("a\x07b"),
		"newline":            source("a\nb"),
		"slash":              source("a/b"),
		"space":              source("a b"),
		"leading dot":        source(".a"),
		"not UTF-8":          source("a\xff"),
		"too long":           source(strings.Repeat("a", 65)),
		"direction override": source("a\u202eb"),
		"unknown kind":       {Name: "a", Kind: "carrier pigeon", Path: "/x"},
		"no path":            {Name: "a", Kind: "system"},
		"relative path":      {Name: "a", Kind: "system", Path: "docs"},
	} {
		_, err := b.Service.Add(t.Context(), guardtest.Admin(), src)
		if !errors.Is(err, store.ErrInvalid) || strings.ContainsAny(err.Error(), "\n\x07\u202e") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := b.Service.Add(t.Context(), guardtest.Admin(), source("Straße-1.b_c")); err != nil {
		t.Errorf("a good name: %v", err)
	}
	if _, err := b.Service.Add(t.Context(), guardtest.Admin(), source("Straße-1.b_c")); !errors.Is(err, connect.ErrExists) {
		t.Errorf("the same name again: %v", err)
	}
}

func TestASourceThatCannotBeReadIsNotAdded(t *testing.T) {
	b := connecttest.Open(t, nil, &system{check: errors.New("the system does not answer")})
	if _, err := b.Service.Add(t.Context(), guardtest.Admin(), source("a")); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("err = %v", err)
	}
	if list, err := b.List(t.Context(), guardtest.Admin()); err != nil || len(list) != 0 {
		t.Errorf("sources: %v, %v", list, err)
	}
}

func TestOnlyWhoMayManagesAndOnlyWhoMayReadSees(t *testing.T) {
	b := connecttest.Open(t, nil, &system{})
	b.Add("system", "a", "/a")
	b.Add("system", "b", "/b")
	key := guardtest.KeyFor("a")
	for what, try := range map[string]func(p auth.Principal) error{
		"add":    func(p auth.Principal) error { _, err := b.Service.Add(t.Context(), p, source("c")); return err },
		"remove": func(p auth.Principal) error { return b.Remove(t.Context(), p, "a") },
		"sync":   func(p auth.Principal) error { _, err := b.Service.Sync(t.Context(), p, "a"); return err },
	} {
		for _, p := range []auth.Principal{key, guardtest.Asker(), guardtest.Auditor(), guardtest.AgentFor(guardtest.Admin())} {
			if err := try(p); !errors.Is(err, auth.ErrDenied) {
				t.Errorf("%s by %s: %v", what, p.ID, err)
			}
		}
	}
	list, err := b.List(t.Context(), key)
	if err != nil || len(list) != 1 || list[0].Name != "a" {
		t.Errorf("the key sees %+v, %v", list, err)
	}
	_, hidden := b.Get(t.Context(), key, "b")
	_, absent := b.Get(t.Context(), key, "c")
	if !errors.Is(hidden, store.ErrNotFound) || strings.ReplaceAll(hidden.Error(), `"b"`, `"c"`) != absent.Error() {
		t.Errorf("what may not be read (%v) does not look absent (%v)", hidden, absent)
	}
	for _, err := range b.Progress(t.Context(), key, "b") {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("progress: %v", err)
		}
	}
}

func TestAnAudienceNarrowsWhoReads(t *testing.T) {
	b := connecttest.Open(t, nil, &system{})
	src := source("a")
	src.Audience = []string{"administrator", "u-friend"}
	if _, err := b.Service.Add(t.Context(), guardtest.Admin(), src); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]bool{"u-admin": true, "u-asker": false, "u-friend": true} {
		who := guardtest.Person(p, auth.Asker)
		if p == "u-admin" {
			who = guardtest.Admin()
		}
		for _, who := range []auth.Principal{who, guardtest.AgentFor(who)} {
			var access graph.Access
			err := b.Store.View(t.Context(), store.Fresh, func(s store.Snapshot) (err error) {
				access, err = graph.ResolveAccess(t.Context(), b.House, who, s)
				return err
			})
			if err != nil || access.May("a") != want {
				t.Errorf("%s may read: %v, want %v (%v)", who.ID, access.May("a"), want, err)
			}
		}
	}
}

func TestEachFetchIsOnRecord(t *testing.T) {
	sys := &system{}
	b := connecttest.Open(t, nil, sys)
	b.Add("system", "a", "/a")
	sys.set(func(context.Context, *connect.Sink) error { return errors.New("it is down") })
	b.Try("a")
	var got []string
	for _, r := range b.House.Records(t) {
		if r.Action == auth.SourceFetch {
			got = append(got, fmt.Sprint(r.Kind, " ", r.Status))
		}
	}
	want := []string{"intent ", "outcome ok", "intent ", "outcome ok", "intent ", "outcome failed"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("records: %q, want %q", got, want)
	}
}

func TestAForbidStopsTheNextFetch(t *testing.T) {
	sys := &system{}
	b := connecttest.Open(t, nil, sys)
	b.Add("system", "a", "/a")
	n := sys.count()
	b.House.Put(t, `@id("no-fetch") forbid (principal, action == Action::"source.fetch", resource);`)
	p := b.Try("a")
	if !strings.Contains(p.Error, "no-fetch") || sys.count() != n {
		t.Errorf("error %q, %d scans", p.Error, sys.count()-n)
	}
}

func TestOneHangingSourceHoldsUpNoOther(t *testing.T) {
	sys := &system{}
	b := connecttest.Open(t, nil, sys)
	release := make(chan struct{})
	sys.set(func(ctx context.Context, _ *connect.Sink) error {
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if _, err := b.Service.Add(t.Context(), guardtest.Admin(), source("hangs")); err != nil {
		t.Fatal(err)
	}
	for sys.count() == 0 {
		if p, err := b.Get(t.Context(), guardtest.Admin(), "hangs"); err != nil || !p.Progress.Running {
			t.Fatalf("%+v, %v", p, err)
		}
	}
	sys.set(func(context.Context, *connect.Sink) error { panic("a parser gave up") })
	if _, err := b.Service.Add(t.Context(), guardtest.Admin(), source("panics")); err != nil {
		t.Fatal(err)
	}
	if p, err := b.Wait(t.Context(), guardtest.Admin(), "panics"); err != nil || !strings.Contains(p.Error, "parser gave up") {
		t.Errorf("panics: %+v, %v", p, err)
	}
	sys.set(nil)
	if p := b.Add("system", "works", "/w"); p.Records != 1 {
		t.Errorf("works: %+v", p)
	}
	close(release)
	b.Settle("hangs")
}

// A sync asked for while one is under way began after the asking: what changed
// before is seen.
func TestASyncAskedForMeanwhileFollows(t *testing.T) {
	sys := &system{}
	b := connecttest.Open(t, nil, sys)
	b.Add("system", "a", "/a")
	started, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	sys.set(func(ctx context.Context, sink *connect.Sink) error {
		once.Do(func() {
			close(started)
			<-release
		})
		return nil
	})
	n := sys.count()
	first, err := b.Service.Sync(t.Context(), guardtest.Admin(), "a")
	if err != nil {
		t.Fatal(err)
	}
	<-started
	second, err := b.Service.Sync(t.Context(), guardtest.Admin(), "a")
	third, err2 := b.Service.Sync(t.Context(), guardtest.Admin(), "a")
	if err = errors.Join(err, err2); err != nil || second == first || third != second {
		t.Fatalf("jobs %s, %s, %s, %v", first, second, third, err)
	}
	close(release)
	if p := b.Settle("a"); p.Job != second || sys.count() != n+2 {
		t.Errorf("job %s after %d scans, want %s after 2", p.Job, sys.count()-n, second)
	}
}

func TestAFailedScanMovesNoWatermarkAndTheNextDoes(t *testing.T) {
	sys := &system{}
	b := connecttest.Open(t, nil, sys)
	sys.set(func(ctx context.Context, sink *connect.Sink) error {
		return errors.Join(sink.Put(ctx, thing("a", "half")), errors.New("and then it broke"))
	})
	if _, err := b.Service.Add(t.Context(), guardtest.Admin(), source("a")); err != nil {
		t.Fatal(err)
	}
	if p, err := b.Wait(t.Context(), guardtest.Admin(), "a"); err != nil || p.Error != "and then it broke" {
		t.Fatalf("%+v, %v", p, err)
	}
	st, err := b.Get(t.Context(), guardtest.Admin(), "a")
	if err != nil || !st.Watermark.IsZero() {
		t.Errorf("watermark after a failed scan: %v, %v", st.Watermark, err)
	}
	if got := b.Natives(store.Local, "a", "thing"); len(got) != 1 {
		t.Errorf("what was read before it broke: %q", got)
	}
	sys.set(nil)
	before := time.Now()
	b.Sync("a")
	if st, err = b.Get(t.Context(), guardtest.Admin(), "a"); err != nil || st.Watermark.Before(before) || st.Watermark.After(time.Now()) {
		t.Errorf("watermark: %v, %v", st.Watermark, err)
	}
	if st.Progress.Running || st.Progress.Finished.IsZero() || st.Progress.Stage != "done" {
		t.Errorf("progress: %+v", st.Progress)
	}
}

func TestARemovedSourceIsGoneAndThenCanComeBack(t *testing.T) {
	sys := &system{}
	b := connecttest.Open(t, nil, sys)
	sys.set(func(ctx context.Context, sink *connect.Sink) error {
		for i := range 1200 {
			if err := sink.Put(ctx, thing("a", fmt.Sprint(i)), graph.CursorWrite{Parts: []string{"c", fmt.Sprint(i)}, Value: []byte("x")}); err != nil {
				return err
			}
		}
		return nil
	})
	b.Add("system", "a", "/a")
	sys.set(nil)
	b.Add("system", "other", "/o")
	was := b.Store.Applied()
	if err := b.Remove(t.Context(), guardtest.Admin(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(t.Context(), guardtest.Admin(), "a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	for k := range b.Graph(true) {
		if strings.Contains(string(k), "/a\x00\x01") {
			t.Fatalf("left over: %q", k)
		}
	}
	if got := b.Natives(store.At(was), "a", "thing"); len(got) != 1200 {
		t.Errorf("as of before: %d records", len(got))
	}
	if got := b.Natives(store.Local, "other", "thing"); len(got) != 1 {
		t.Errorf("the other source: %q", got)
	}
	if p := b.Add("system", "a", "/a"); p.Records != 1 {
		t.Errorf("added again: %+v", p)
	}
}

// A job that was begun just before a removal, and comes to fetch just after it,
// must not bring back what was removed.
func TestNothingIsFetchedForASourceThatIsBeingRemoved(t *testing.T) {
	sys := &system{}
	b := connecttest.Open(t, nil, sys)
	b.Add("system", "a", "/a")
	n := sys.count()
	late := &lateDoor{Door: b.House, after: make(chan error, 1), before: func() {
		_, err := b.Store.Update(t.Context(), func(u *store.Update) error {
			item, err := u.Get(graph.SpaceSource.Key("a"))
			if err != nil {
				return err
			}
			src, err := graph.DecodeSource(item.Value)
			src.Removing = true
			return errors.Join(err, graph.PutSource(u.Tx, src, item.Value))
		})
		if err != nil {
			t.Error(err)
		}
	}}
	s, err := connect.New(connect.Config{Store: b.Store, Blobs: b.Blobs, Door: late, Connectors: []connect.Connector{sys},
		Node: guardtest.Node(), Every: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sync(t.Context(), guardtest.Admin(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := <-late.after; !errors.Is(err, connect.ErrRemoved) || sys.count() != n {
		t.Errorf("%d fetches, %v", sys.count()-n, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// lateDoor lets something happen between a job's beginning and its fetch.
type lateDoor struct {
	guard.Door
	before func()
	after  chan error
}

func (d *lateDoor) Do(ctx context.Context, req guard.Request, act func(context.Context, *guard.Permit) (guard.Outcome, error)) error {
	if req.Action != auth.SourceFetch {
		return d.Door.Do(ctx, req, act)
	}
	d.before()
	err := d.Door.Do(ctx, req, act)
	d.after <- err
	return err
}

func TestRemovalGoesOnAfterAStop(t *testing.T) {
	sys := &system{}
	st := storetest.NewModel(nil)
	cut := &connecttest.Cut{Store: st, Left: 1 << 30}
	b := connecttest.Open(t, cut, sys)
	b.Add("system", "a", "/a")
	cut.Left = 0
	if err := b.Remove(t.Context(), guardtest.Admin(), "a"); !errors.Is(err, connecttest.ErrCut) {
		t.Fatalf("remove: %v", err)
	}
	if list, err := b.List(t.Context(), guardtest.Admin()); err != nil || len(list) != 0 {
		t.Errorf("while it is being removed it can be seen: %+v, %v", list, err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	again := connecttest.OpenOver(t, st, b.Blobs, sys)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- again.Run(ctx) }()
	for left := 1; left > 0; {
		if err := st.View(ctx, store.Local, func(s store.Snapshot) error {
			all, err := graph.AllSources(s)
			left = len(all)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := len(again.Graph(true)); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}

func TestSourcesAreSyncedOnSchedule(t *testing.T) {
	sys := &system{}
	first := connecttest.Open(t, nil, sys)
	first.Add("system", "a", "/a")
	n := sys.count()
	s, err := connect.New(connect.Config{Store: first.Store, Blobs: first.Blobs, Door: first.House, Connectors: []connect.Connector{sys},
		Node: guardtest.Node(), Every: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for sys.count() < n+3 {
		select {
		case err := <-done:
			t.Fatalf("it stopped: %v", err)
		default:
		}
	}
	stop()
	if err := errors.Join(<-done, s.Close()); err != nil {
		t.Fatal(err)
	}
	var actors []auth.Kind
	for _, r := range first.House.Records(t) {
		if r.Action == auth.SourceFetch {
			actors = append(actors, auth.Kind(r.Actor.Kind))
		}
	}
	if len(actors) < 4 || actors[len(actors)-1] != auth.System {
		t.Errorf("fetches by %v", actors)
	}
}

func TestClosingInterruptsAndTheProgressSaysSo(t *testing.T) {
	sys := &system{}
	b := connecttest.Open(t, nil, sys)
	sys.set(func(ctx context.Context, _ *connect.Sink) error {
		<-ctx.Done()
		return ctx.Err()
	})
	if _, err := b.Service.Add(t.Context(), guardtest.Admin(), source("a")); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	again := connecttest.OpenOver(t, b.Store, b.Blobs, sys)
	st, err := again.Get(t.Context(), guardtest.Admin(), "a")
	if err != nil || !strings.Contains(st.Progress.Error, "interrupted") || st.Progress.Running {
		t.Errorf("%+v, %v", st.Progress, err)
	}
}

func TestPrintableNamesStayDistinct(t *testing.T) {
	names := []string{"a", "a b", "ä", `a\x01`, "a\x01", "a\u202eb", `a\u{202e}b`, "\xff", `\xff`, "a\nb", "日本"}
	seen := map[string]string{}
	for _, n := range names {
		p := connect.Printable(n)
		if was, ok := seen[p]; ok {
			t.Errorf("%q and %q are both %q", was, n, p)
		}
		seen[p] = n
		if strings.ContainsAny(p, "\x01\n\u202e") || !utf8.ValidString(p) {
			t.Errorf("%q is shown as %q", n, p)
		}
	}
	if connect.Printable("docs/ä b.md") != "docs/ä b.md" {
		t.Error("a harmless name was changed")
	}
}
