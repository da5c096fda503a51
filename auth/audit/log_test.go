package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit/proof"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

type testKey struct {
	signer note.Signer
	vkey   string
}

func newKey(t testing.TB, seed string) testKey {
	t.Helper()
	skey, vkey, err := note.GenerateKey(strings.NewReader(strings.Repeat(seed, 32)), "cloister/test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return testKey{signer, vkey}
}

// plainSealer shows what it seals, and what with.
type plainSealer struct{}

func (plainSealer) Seal(aad, plain []byte) ([]byte, error) {
	return append(append(bytes.Clone(aad), '|'), plain...), nil
}

func (plainSealer) Open(aad, sealed []byte) ([]byte, error) {
	plain, ok := bytes.CutPrefix(sealed, append(bytes.Clone(aad), '|'))
	if !ok {
		return nil, errors.New("sealed with something else")
	}
	return plain, nil
}

func openLog(t testing.TB, s store.Store, key testKey) *Log {
	t.Helper()
	l, err := New(Config{Store: s, Signer: key.signer, VerifierKey: key.vkey, Sealer: plainSealer{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func record(i int) Record {
	r := Record{
		ID: fmt.Sprintf("R%d", i), Kind: Intent, Actor: Actor{Kind: auth.User, ID: fmt.Sprintf("u%d", i%3)},
		Action: auth.Ask, Resource: Resource{Type: "System", ID: "cloister"}, Decision: "allow", Run: fmt.Sprintf("run%d", i/10),
	}
	if i%5 == 0 {
		r.Kind, r.Decision, r.Action = Refusal, "deny", auth.AuditExport
		r.Resource = Resource{Type: "Source", ID: "docs"}
		r.Actor = Actor{Kind: auth.Agent, ID: "a", OnBehalfOf: &Actor{Kind: auth.User, ID: r.Actor.ID}}
	}
	return r
}

// fill appends records i in [from, to), a few to a transaction.
func fill(t testing.TB, s store.Store, from, to int) {
	t.Helper()
	for from < to {
		tx := store.NewTx()
		for n := 0; n < 7 && from < to; n++ {
			if err := Append(tx, record(from)); err != nil {
				t.Fatal(err)
			}
			from++
		}
		if _, err := s.Apply(t.Context(), tx); err != nil {
			t.Fatal(err)
		}
	}
}

// TestACheckpointIsWhatC2SPSays opens ours with nothing of ours.
func TestACheckpointIsWhatC2SPSays(t *testing.T) {
	s, key := storetest.NewModel(nil), newKey(t, "k")
	fill(t, s, 0, 300)
	c, err := openLog(t, s, key).Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(key.vkey)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(c.Note, note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(ix []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(ix))
		for i, x := range ix {
			out[i] = hashes[x]
		}
		return out, nil
	})
	s.View(t.Context(), store.Local, func(snap store.Snapshot) error {
		for leaf, err := range snap.Log(LogName).Leaves(0) {
			if err != nil {
				t.Fatal(err)
			}
			hs, err := tlog.StoredHashes(int64(leaf.Seq), leaf.Data, reader)
			if err != nil {
				t.Fatal(err)
			}
			hashes = append(hashes, hs...)
		}
		return nil
	})
	root, err := tlog.TreeHash(301, reader) // 300 and the event of the key
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("cloister/test\n301\n%s\n", root); !strings.HasPrefix(n.Text, want) || c.Size != 301 {
		t.Errorf("checkpoint %q, want it to begin %q", n.Text, want)
	}
}

func TestACheckpointIsSignedOnlyWhenTheLogGrew(t *testing.T) {
	s := storetest.NewModel(nil)
	l := openLog(t, s, newKey(t, "k"))
	if _, err := l.Last(t.Context()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("before the first: %v", err)
	}
	first, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := l.Checkpoint(t.Context())
	if err != nil || !bytes.Equal(again.Note, first.Note) {
		t.Errorf("signed %q, then %q (%v)", first.Note, again.Note, err)
	}
	fill(t, s, 0, 1)
	grown, err := l.Checkpoint(t.Context())
	if err != nil || grown.Size != first.Size+1 {
		t.Errorf("size %d after %d (%v)", grown.Size, first.Size, err)
	}
	if last, err := l.Last(t.Context()); err != nil || !bytes.Equal(last.Note, grown.Note) {
		t.Errorf("last is %q (%v)", last.Note, err)
	}
}

// TestCheckpointsNeverContradict has several nodes sign while others write.
func TestCheckpointsNeverContradict(t *testing.T) {
	s, key := storetest.NewModel(nil), newKey(t, "k")
	var mu sync.Mutex
	seen := map[uint64]Checkpoint{}
	var wg sync.WaitGroup
	for range 4 {
		l := openLog(t, s, key)
		wg.Go(func() {
			for i := range 40 {
				tx := store.NewTx()
				Append(tx, record(i))
				if _, err := s.Apply(t.Context(), tx); err != nil {
					t.Error(err)
				}
				c, err := l.Checkpoint(t.Context())
				if errors.Is(err, store.ErrBusy) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if before, ok := seen[c.Size]; ok && !bytes.Equal(before.Note, c.Note) {
					t.Errorf("two checkpoints of %d: %q and %q", c.Size, before.Note, c.Note)
				}
				seen[c.Size] = c
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	s.View(t.Context(), store.Local, func(snap store.Snapshot) error {
		for _, c := range seen {
			if err := continues(snap.Log(LogName), c); err != nil {
				t.Error(err)
			}
		}
		return nil
	})
	if len(seen) < 40 {
		t.Errorf("%d checkpoints", len(seen))
	}
}

// TestALogThatLostRecordsIsNotSigned: the store came back older, or other, than
// its last checkpoint.
func TestALogThatLostRecordsIsNotSigned(t *testing.T) {
	key := newKey(t, "k")
	whole := storetest.NewModel(nil)
	fill(t, whole, 0, 50)
	if _, err := openLog(t, whole, key).Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	last, err := read(t, whole, lastKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]int{"shorter": 20, "as long": 50, "longer": 80} {
		s := storetest.NewModel(nil)
		l := openLog(t, s, key)
		if err := l.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		fill(t, s, 1000, 1000+n)
		tx := store.NewTx()
		tx.Put(lastKey, last)
		if _, err := s.Apply(t.Context(), tx); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Checkpoint(t.Context()); !errors.Is(err, ErrForked) {
			t.Errorf("%s: %v", name, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := l.Run(ctx); !errors.Is(err, ErrForked) {
			t.Errorf("%s: Run ended with %v", name, err)
		}
		cancel()
	}
}

func read(t *testing.T, s store.Store, k store.Key) ([]byte, error) {
	var value []byte
	err := s.View(t.Context(), store.Local, func(snap store.Snapshot) error {
		item, err := snap.Get(k)
		value = item.Value
		return err
	})
	return value, err
}

func TestRunSignsEachSecondOrThousandRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewModel(nil)
		l := openLog(t, s, newKey(t, "k"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		size := func() uint64 {
			synctest.Wait()
			c, err := l.Last(ctx)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				t.Fatal(err)
			}
			return c.Size
		}
		fill(t, s, 0, 1)
		time.Sleep(lookEvery + time.Millisecond)
		first := size() // the record and the event of the key
		fill(t, s, 1, 11)
		time.Sleep(lookEvery)
		if got := size(); got != first || first != 2 {
			t.Errorf("signed %d, then %d before a second had passed", first, got)
		}
		time.Sleep(signEvery)
		if got := size(); got != 12 {
			t.Errorf("signed %d a second after the first 12", got)
		}
		fill(t, s, 11, 11+signRecords)
		time.Sleep(lookEvery)
		if got := size(); got != 12+signRecords {
			t.Errorf("signed %d, want %d at once", got, 12+signRecords)
		}
		before, _ := l.Last(ctx)
		time.Sleep(time.Minute)
		if after, _ := l.Last(ctx); !bytes.Equal(before.Note, after.Note) {
			t.Error("signed again although the log did not grow")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// fullDisk refuses every change while full is set.
type fullDisk struct {
	store.Store
	full atomic.Bool
}

func (d *fullDisk) Apply(ctx context.Context, tx *store.Tx) (store.Result, error) {
	if d.full.Load() {
		return store.Result{}, store.ErrReadOnly
	}
	return d.Store.Apply(ctx, tx)
}

// TestRunOutlivesAFullDisk: it complains once and signs when it can again.
func TestRunOutlivesAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var complaints bytes.Buffer
		s, key := &fullDisk{Store: storetest.NewModel(nil)}, newKey(t, "k")
		l, err := New(Config{Store: s, Signer: key.signer, VerifierKey: key.vkey, Logger: slog.New(slog.NewTextHandler(&complaints, nil))})
		if err != nil {
			t.Fatal(err)
		}
		fill(t, s, 0, 10)
		s.full.Store(true)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		time.Sleep(10 * time.Second)
		if _, err := l.Checkpoint(ctx); !errors.Is(err, store.ErrReadOnly) {
			t.Errorf("with a full disk: %v", err)
		}
		s.full.Store(false)
		time.Sleep(2 * signEvery)
		if c, err := l.Last(ctx); err != nil || c.Size != 11 {
			t.Errorf("afterwards %d records are signed: %v", c.Size, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := strings.Count(complaints.String(), "no checkpoint could be signed"); n != 1 {
			t.Errorf("%d complaints: %s", n, &complaints)
		}
	})
}

func TestCheckpointsAreThinnedOut(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 10, 0, 0, time.UTC)
	s := storetest.NewModel(func() time.Time { return now })
	l := openLog(t, s, newKey(t, "k"))
	for i := range 5 * 12 {
		fill(t, s, i, i+1)
		if _, err := l.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		now = now.Add(5 * time.Minute)
	}
	var recent, hourly int
	s.View(t.Context(), store.Local, func(snap store.Snapshot) error {
		for range snap.Scan(store.Key(recentSpace), "") {
			recent++
		}
		for range snap.Scan(store.Key(hourlySpace), "") {
			hourly++
		}
		return nil
	})
	if recent != 12 || hourly != 6 {
		t.Errorf("%d recent and %d hourly checkpoints kept, want 12 and 6", recent, hourly)
	}
	r := verify(t, l, Range{}, nil)
	if r.History != 6 {
		t.Errorf("the export proves %d earlier checkpoints, want 6", r.History)
	}
}

func TestAnotherKeyIsNotAccepted(t *testing.T) {
	s, key := storetest.NewModel(nil), newKey(t, "k")
	if _, err := openLog(t, s, key).Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := openLog(t, s, newKey(t, "x"))
	if _, err := other.Checkpoint(t.Context()); !errors.Is(err, ErrKey) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := other.Run(ctx); !errors.Is(err, ErrKey) {
		t.Errorf("Run ended with %v", err)
	}
	if _, err := New(Config{Store: s, Signer: key.signer, VerifierKey: newKey(t, "x").vkey}); !errors.Is(err, ErrKey) {
		t.Errorf("a pair that is none: %v", err)
	}
}

func TestTheKeyCanBeChanged(t *testing.T) {
	s, old, next := storetest.NewModel(nil), newKey(t, "k"), newKey(t, "n")
	l := openLog(t, s, old)
	noted := l.Fingerprint()
	fill(t, s, 0, 30)
	held, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Rotate(t.Context(), next.signer, next.vkey); err != nil {
		t.Fatal(err)
	}
	if l.Fingerprint() == noted {
		t.Error("the fingerprint did not change")
	}
	fill(t, s, 30, 60)
	bundle := export(t, l, Range{}, nil)
	for _, f := range []string{noted, l.Fingerprint()} {
		r, err := proof.Verify(bytes.NewReader(bundle), int64(len(bundle)), proof.Options{LogKey: f, After: held.Note})
		if err != nil || r.Keys != 2 || r.Key != l.Fingerprint() {
			t.Errorf("by %s: %+v, %v", f, r, err)
		}
	}
	p, err := l.List(t.Context(), Filter{Action: KeyChange})
	if err != nil || len(p.Entries) != 1 || p.Entries[0].Record.Detail["before"] != noted {
		t.Errorf("the change is recorded as %+v (%v)", p.Entries, err)
	}
	if _, err := openLog(t, s, old).Checkpoint(t.Context()); !errors.Is(err, ErrKey) {
		t.Errorf("the old key after the change: %v", err)
	}
	if _, err := openLog(t, s, next).Checkpoint(t.Context()); err != nil {
		t.Errorf("the new key at the next start: %v", err)
	}
}

func export(t testing.TB, l *Log, r Range, policies map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := l.Export(t.Context(), r, &b, policies); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func verify(t testing.TB, l *Log, r Range, after []byte) proof.Report {
	t.Helper()
	b := export(t, l, r, map[string]string{"p1": "permit(principal, action, resource);"})
	report, err := proof.Verify(bytes.NewReader(b), int64(len(b)), proof.Options{LogKey: l.Fingerprint(), After: after})
	if err != nil {
		t.Fatal(err)
	}
	return report
}
