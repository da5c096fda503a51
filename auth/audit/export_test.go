package audit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit/proof"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

func TestAnExportVerifies(t *testing.T) {
	s := storetest.NewModel(nil)
	l := openLog(t, s, newKey(t, "k"))
	fill(t, s, 0, 500)
	held, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, 500, 900)
	for _, r := range []Range{{}, {From: 501}, {From: 10, To: 20}, {From: 600, Held: []uint64{501}}, {From: 900}, {From: 5000}} {
		report := verify(t, l, r, nil)
		from, to := min(r.From, 901), uint64(901)
		if r.To > 0 {
			to = r.To
		}
		if report.From != from || report.To != to || report.Size != 901 {
			t.Errorf("%+v gave %d to %d of %d", r, report.From, report.To, report.Size)
		}
	}
	if r := verify(t, l, Range{From: 600, Held: []uint64{501}}, held.Note); r.After == nil || r.After.Size != 501 {
		t.Errorf("after the checkpoint held: %+v", r.After)
	}
}

func TestAnExportOfATimeHoldsThatTime(t *testing.T) {
	start := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	now := start
	s := storetest.NewModel(func() time.Time { return now })
	l := openLog(t, s, newKey(t, "k"))
	if _, err := l.Checkpoint(t.Context()); err != nil { // record 0: the event of the key
		t.Fatal(err)
	}
	for i := range 100 {
		now = start.Add(time.Duration(i+1) * time.Minute)
		fill(t, s, i, i+1)
	}
	r := verify(t, l, Range{Since: start.Add(10 * time.Minute), Until: start.Add(20 * time.Minute)}, nil)
	if r.From != 10 || r.To != 20 || !r.First.Equal(start.Add(10*time.Minute)) || !r.Last.Equal(start.Add(19*time.Minute)) {
		t.Errorf("records %d to %d, %v to %v", r.From, r.To, r.First, r.Last)
	}
	p, err := l.List(t.Context(), Filter{Since: start.Add(10 * time.Minute), Until: start.Add(20 * time.Minute)})
	if err != nil || len(p.Entries) != 10 || p.Entries[0].Seq != 19 || p.More {
		t.Errorf("%d entries, more %v (%v)", len(p.Entries), p.More, err)
	}
}

func TestAPersonCanBeForgotten(t *testing.T) {
	s := storetest.NewModel(nil)
	l := openLog(t, s, newKey(t, "k"))
	add := func(subject, name string) string {
		tx := store.NewTx()
		r := record(1)
		r.ID = NewID()
		if err := l.Personal(tx, &r, subject, "name", name); err != nil {
			t.Fatal(err)
		}
		if err := Append(tx, r); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Apply(t.Context(), tx); err != nil {
			t.Fatal(err)
		}
		return r.ID
	}
	var ada []string
	for range forgetAtOnce + 5 {
		ada = append(ada, add("u-ada", "Ada Lovelace"))
	}
	bob := add("u-bob", "Bob")
	held := export(t, l, Range{}, nil)
	if bytes.Contains(held, []byte("Lovelace")) {
		t.Error("an export that was not asked for openings holds a name")
	}
	if !bytes.Contains(export(t, l, Range{Openings: true}, nil), []byte("Ada Lovelace")) {
		t.Error("an export with openings lacks the name")
	}
	if r := verify(t, l, Range{Openings: true}, nil); r.Openings != len(ada)+1 {
		t.Errorf("%d openings match", r.Openings)
	}
	n, err := l.Forget(t.Context(), auth.Principal{Kind: auth.User, ID: "admin"}, "u-ada")
	if err != nil || n != len(ada) {
		t.Fatalf("forgot %d: %v", n, err)
	}
	if r := verify(t, l, Range{Openings: true}, nil); r.Openings != 1 {
		t.Errorf("%d openings after forgetting", r.Openings)
	}
	for _, id := range []string{ada[0], bob} {
		opens, err := l.Openings(t.Context(), id)
		if err != nil || len(opens) != map[string]int{ada[0]: 0, bob: 1}[id] {
			t.Errorf("%s: %v, %v", id, opens, err)
		}
	}
	s.View(t.Context(), store.Local, func(snap store.Snapshot) error {
		for item := range snap.Scan("", "") {
			if bytes.Contains(item.Value, []byte("Lovelace")) {
				t.Errorf("%q still holds the name", item.Key)
			}
		}
		return nil
	})
	if p, err := l.List(t.Context(), Filter{Action: Forgotten}); err != nil || len(p.Entries) == 0 || p.Entries[0].Record.Actor.ID != "admin" {
		t.Errorf("forgetting is recorded as %+v (%v)", p.Entries, err)
	}
}

// TestPagesHoldWhatMatchesOnce compares each way of paging with a plain scan.
func TestPagesHoldWhatMatchesOnce(t *testing.T) {
	s := storetest.NewModel(nil)
	l := openLog(t, s, newKey(t, "k"))
	fill(t, s, 0, 700)
	all, err := l.List(t.Context(), Filter{Oldest: true, Limit: MaxPage})
	if err != nil || len(all.Entries) != 700 || all.More {
		t.Fatalf("%d records, more %v (%v)", len(all.Entries), all.More, err)
	}
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		f := Filter{
			Oldest: rapid.Bool().Draw(t, "oldest"), Limit: rapid.IntRange(1, 300).Draw(t, "limit"),
			From: rapid.Uint64Range(0, 800).Draw(t, "from"), Before: rapid.Uint64Range(0, 800).Draw(t, "before"),
			Actor: rapid.SampledFrom([]string{"", "u1", "a", "nobody"}).Draw(t, "actor"),
			Kind:  rapid.SampledFrom([]Kind{"", Intent, Refusal}).Draw(t, "kind"),
			Run:   rapid.SampledFrom([]string{"", "", "run3"}).Draw(t, "run"),
			// "type:id" and "type"
			Resource: rapid.SampledFrom([]string{"", "Source", "Source:docs", "System:x"}).Draw(t, "resource"),
			Action:   rapid.SampledFrom([]auth.Action{"", auth.Ask, auth.AuditExport}).Draw(t, "action"),
		}
		var want, got []uint64
		for _, e := range all.Entries {
			if e.Seq >= f.From && (f.Before == 0 || e.Seq < f.Before) && f.matches(&e.Record) {
				want = append(want, e.Seq)
			}
		}
		if !f.Oldest {
			slices.Reverse(want)
		}
		for pages := 0; ; pages++ {
			p, err := l.List(ctx, f)
			if err != nil || len(p.Entries) > f.Limit || pages > 800 {
				t.Fatalf("page of %d: %v", len(p.Entries), err)
			}
			for _, e := range p.Entries {
				got = append(got, e.Seq)
			}
			if !p.More {
				break
			}
			f = f.Following(p)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// viewCounter counts the views that are open.
type viewCounter struct {
	store.Store
	open atomic.Int64
}

func (v *viewCounter) View(ctx context.Context, at store.ReadAt, f func(store.Snapshot) error) error {
	v.open.Add(1)
	defer v.open.Add(-1)
	return v.Store.View(ctx, at, f)
}

// TestASlowReaderHoldsNothing: while a bundle is written out, no view is open,
// so the store can let go of what it no longer needs; and it comes in pieces.
func TestASlowReaderHoldsNothing(t *testing.T) {
	s := &viewCounter{Store: storetest.NewModel(nil)}
	l := openLog(t, s, newKey(t, "k"))
	fill(t, s, 0, 3*chunkLeaves)
	writes, largest := 0, 0
	err := l.Export(t.Context(), Range{}, writerFunc(func(b []byte) (int, error) {
		if n := s.open.Load(); n != 0 {
			t.Fatalf("%d views are open during a write", n)
		}
		writes++
		largest = max(largest, len(b))
		return len(b), nil
	}), nil)
	if err != nil || writes < 20 || largest > 128<<10 {
		t.Errorf("%d writes, the largest of %d bytes: %v", writes, largest, err)
	}
	broken := errors.New("the line went dead")
	err = l.Export(t.Context(), Range{}, writerFunc(func(b []byte) (int, error) { return 0, broken }), nil)
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// TestABundleSaysWhatItHolds reads the tables as an auditor would.
func TestABundleSaysWhatItHolds(t *testing.T) {
	s := storetest.NewModel(nil)
	l := openLog(t, s, newKey(t, "k"))
	fill(t, s, 0, 20)
	b := string(export(t, l, Range{}, map[string]string{"users-ask": "permit(principal, action, resource); // text"}))
	for _, want := range []string{
		"// text", "policies/users-ask.cedar", "<td>refusal</td><td class=\"n\">4</td>", "Audit records 0 to 20",
		l.Fingerprint(), "cloister-verify --log-key", ",R7,intent,User,u1,,ask,System,cloister,allow,",
	} {
		if !strings.Contains(b, want) {
			t.Errorf("the bundle lacks %q", want)
		}
	}
	if strings.Contains(b, "<script") {
		t.Error("the report has a script")
	}
}

func BenchmarkExport(b *testing.B) {
	const n = 100_000
	s := storetest.NewModel(nil)
	l := openLog(b, s, newKey(b, "k"))
	for i := 0; i < n; {
		tx := store.NewTx()
		for tx.Fits(1, 1024) && i < n {
			if err := Append(tx, record(i)); err != nil {
				b.Fatal(err)
			}
			i++
		}
		if _, err := s.Apply(b.Context(), tx); err != nil {
			b.Fatal(err)
		}
	}
	bundle := export(b, l, Range{}, nil)
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := l.Export(b.Context(), Range{}, io.Discard, nil); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/record")
	})
	b.Run("verify", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := proof.Verify(bytes.NewReader(bundle), int64(len(bundle)), proof.Options{LogKey: l.Fingerprint()}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/record")
	})
}
