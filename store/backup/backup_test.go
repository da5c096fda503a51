package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/machine"
	"github.com/cloister-os/cloister/store/sealed"
)

// rootKey stands in for the cluster's.
type rootKey struct{ keyRing }

func (k *rootKey) Seal(aad, plain []byte) ([]byte, error) {
	return sealed.NewBox(k, "test").Seal(nil, aad, plain)
}
func (k *rootKey) Open(aad, b []byte) ([]byte, error) {
	return sealed.NewBox(k, "test").Open(nil, aad, b)
}

// world is a node to back up.
type world struct {
	t       testing.TB
	machine *machine.Machine
	blobs   *blob.Store
	root    rootKey
	signer  note.Signer
	vkey    string
	lineage string
	index   uint64
	config  Config
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, lineage: "1", index: 1, root: rootKey{keyRing{7}}}
	skey, vkey, err := note.GenerateKey(strings.NewReader(strings.Repeat("k", 64)), "cloister/test")
	if err != nil {
		t.Fatal(err)
	}
	w.vkey = vkey
	if w.signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	w.machine = newMachine(t)
	if w.blobs, err = blob.Open(filepath.Join(t.TempDir(), "blobs")); err != nil {
		t.Fatal(err)
	}
	w.config = Config{
		Dir: filepath.Join(t.TempDir(), "backups"), Cluster: "cloister/test", Node: "n1", Program: "test", Data: w.machine, Blobs: w, Sealer: &w.root,
		Sign:    func(text string) ([]byte, error) { return note.Sign(&note.Note{Text: text}, w.signer) },
		Verify:  w.verify,
		Lineage: func(context.Context) (string, error) { return w.lineage, nil },
		Keys:    func(context.Context) (json.RawMessage, error) { return json.Marshal(w.vkey) },
		Seal: func() (map[string][]byte, []byte, error) {
			return map[string][]byte{"log.key.sealed": []byte("sealed")}, nil, nil
		},
		Logger: slog.New(slog.DiscardHandler),
	}
	return w
}

func newMachine(t testing.TB) *machine.Machine {
	m, err := machine.Open(machine.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func (w *world) verify(msg []byte, keys json.RawMessage) (string, error) {
	v, err := note.NewVerifier(w.vkey)
	if err != nil {
		return "", err
	}
	n, err := note.Open(msg, note.VerifierList(v))
	if err != nil {
		return "", err
	}
	if again, err := note.Sign(&note.Note{Text: n.Text}, w.signer); err != nil || !bytes.Equal(again, msg) {
		return "", errors.New("another spelling")
	}
	return n.Text, nil
}

// List implements Blobs.
func (w *world) List(context.Context) iter.Seq2[blob.Info, error] { return w.blobs.List() }

// Open implements Blobs.
func (w *world) Open(_ context.Context, h blob.Hash) (io.ReadCloser, int64, error) {
	return w.blobs.Open(h)
}

func (w *world) put(k store.Key, v string) {
	w.t.Helper()
	tx := store.NewTx()
	if v == "" {
		tx.Delete(k)
	} else {
		tx.Put(k, []byte(v))
	}
	w.index++
	g := machine.Group{Time: time.Unix(int64(w.index), 0), Origins: []machine.Origin{{Node: "n1", Boot: 1, Lowest: w.index}}, Entries: []machine.Entry{{Seq: w.index, Ops: tx.Ops()}}}
	if _, err := w.machine.Apply(w.index, g.AppendTo(nil)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) blob(text string) blob.Hash {
	w.t.Helper()
	h, err := w.blobs.PutBytes(w.t.Context(), []byte(text))
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

func (w *world) create(full bool) *Manifest {
	w.t.Helper()
	m, err := NewMaker(w.config).Create(w.t.Context(), full)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

func (w *world) folder() Folder { return Folder{w.config.Dir, w.verify} }

func quiet(Progress) {}

// restore reads a backup back: its keys, and its blobs.
func (w *world) restore(name string) (map[string]string, []string) {
	w.t.Helper()
	c, err := w.folder().Chain(name)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := c.Check(w.t.Context(), quiet); err != nil {
		w.t.Fatal(err)
	}
	o, err := c.Open(&w.root)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := o.CheckInside(w.t.Context(), quiet); err != nil {
		w.t.Fatal(err)
	}
	m := newMachine(w.t)
	r := o.Reader(w.t.Context(), []machine.Extra{{Key: "H/extra", Value: []byte("x")}}, quiet)
	defer r.Close()
	if err := m.Restore(r, c.Version()+3); err != nil {
		w.t.Fatal(err)
	}
	keys := map[string]string{}
	err = m.View(0, func(s store.Snapshot) error {
		for item, err := range s.Scan("", "") {
			if err != nil {
				return err
			}
			keys[string(item.Key)] = string(item.Value)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	var blobs []string
	err = o.EachBlob(w.t.Context(), quiet, func(info blob.Info, r io.Reader) error {
		b, err := io.ReadAll(r)
		if blob.Hash(sha256.Sum256(b)) != info.Hash {
			w.t.Errorf("blob %s holds %q", info.Hash, b)
		}
		blobs = append(blobs, string(b))
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Sort(blobs)
	return keys, blobs
}

func TestAChainBringsEverythingBack(t *testing.T) {
	w := newWorld(t)
	w.put("H/a", "1")
	w.put("S/a", "1")
	w.blob("first")
	one := w.create(false)
	w.put("H/b", "2")
	w.put("H/a", "")
	w.put("S/a", "2")
	w.blob("second")
	two := w.create(false)
	w.put("H/b", "3")
	three := w.create(false)
	if one.Parent != nil || two.Parent == nil || two.Parent.Name != one.Name || three.Parent.Name != two.Name {
		t.Fatalf("parents %+v, %+v, %+v", one.Parent, two.Parent, three.Parent)
	}
	if two.Blobs.Count != 1 || three.Blobs.Count != 0 || two.Parts[1].Whole {
		t.Errorf("the second holds %+v, %+v, the third %+v", two.Blobs, two.Parts, three.Blobs)
	}
	for name, want := range map[string][2]string{
		one.Name:   {"map[H/a:1 H/extra:x S/a:1]", "[first]"},
		two.Name:   {"map[H/b:2 H/extra:x S/a:2]", "[first second]"},
		three.Name: {"map[H/b:3 H/extra:x S/a:2]", "[first second]"},
	} {
		keys, blobs := w.restore(name)
		if got := [2]string{fmt.Sprint(keys), fmt.Sprint(blobs)}; got != want {
			t.Errorf("%s gave %v, want %v", name, got, want)
		}
	}
	if m := w.create(true); m.Parent != nil || m.Blobs.Count != 2 {
		t.Errorf("a full one: %+v", m)
	}
	w.lineage = "2 x"
	if m := w.create(false); m.Parent != nil {
		t.Errorf("after a restore: %+v", m.Parent)
	}
}

// TestEveryByteCounts changes each byte of each file of a small backup in turn.
func TestEveryByteCounts(t *testing.T) {
	w := newWorld(t)
	w.put("H/a", "1")
	w.blob("first")
	m := w.create(false)
	list, err := os.ReadDir(filepath.Join(w.config.Dir, m.Name))
	if err != nil || len(list) != 5 {
		t.Fatalf("%d files (%v)", len(list), err)
	}
	for _, e := range list {
		path := filepath.Join(w.config.Dir, m.Name, e.Name())
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range whole {
			whole[i] ^= 1 << (i % 8)
			if err := w.verifyFile(path, whole, m.Name); err == nil || !strings.Contains(err.Error(), e.Name()) {
				t.Fatalf("byte %d of %s: %v", i, e.Name(), err)
			}
			whole[i] ^= 1 << (i % 8)
		}
		for n := 0; n < len(whole); n += 1 + len(whole)/20 {
			if err := w.verifyFile(path, whole[:n], m.Name); err == nil || !strings.Contains(err.Error(), e.Name()) {
				t.Fatalf("%s cut at %d: %v", e.Name(), n, err)
			}
		}
		if err := w.verifyFile(path, append(bytes.Clone(whole), 0), m.Name); err == nil {
			t.Fatalf("%s with a byte more verifies", e.Name())
		}
		if err := w.verifyFile(path, whole, m.Name); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.verifyFile(filepath.Join(w.config.Dir, m.Name, "more"), nil, m.Name); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "more") {
		t.Errorf("a file more: %v", err)
	}
}

func (w *world) verifyFile(path string, content []byte, name string) error {
	w.t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		w.t.Fatal(err)
	}
	c, err := w.folder().Chain(name)
	if err != nil {
		return err
	}
	return c.Check(w.t.Context(), quiet)
}

func TestAMissingLinkIsNamed(t *testing.T) {
	w := newWorld(t)
	var names []string
	for i := range 3 {
		w.put("H/a", fmt.Sprint(i))
		names = append(names, w.create(false).Name)
	}
	aside := filepath.Join(t.TempDir(), "aside")
	middle := filepath.Join(w.config.Dir, names[1])
	if err := os.Rename(middle, aside); err != nil {
		t.Fatal(err)
	}
	_, err := w.folder().Chain(names[2])
	if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "the backup "+names[1]+" is missing") {
		t.Errorf("got %v", err)
	}
	// The next one does not build on what is broken.
	w.put("H/a", "x")
	if m := w.create(false); m.Parent != nil {
		t.Errorf("it builds on %+v", m.Parent)
	}
	if err := os.Rename(aside, middle); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(w.config.Dir, names[0]), middle+"x"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(middle, filepath.Join(w.config.Dir, names[0])); err != nil {
		t.Fatal(err)
	}
	if _, err := w.folder().Chain(names[0]); !errors.Is(err, ErrDamaged) {
		t.Errorf("a backup under another's name: %v", err)
	}
	if _, err := w.folder().Chain("20260101T000000Z-v1"); !errors.Is(err, ErrMissing) {
		t.Errorf("no such backup: %v", err)
	}
}

func TestAForeignKeyOpensNothing(t *testing.T) {
	w := newWorld(t)
	w.put("H/a", "1")
	w.blob("the secret of the house")
	m := w.create(false)
	c, err := w.folder().Chain(m.Name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Open(&rootKey{keyRing{8}}); !errors.Is(err, ErrKey) {
		t.Errorf("got %v", err)
	}
	err = filepath.WalkDir(w.config.Dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("secret of the house")) {
			t.Errorf("%s holds plaintext", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// flakyBlobs fails after some blobs.
type flakyBlobs struct {
	*world
	left   int
	opened int
}

var errCable = errors.New("the cable was pulled")

func (f *flakyBlobs) Open(ctx context.Context, h blob.Hash) (io.ReadCloser, int64, error) {
	if f.left--; f.left < 0 {
		return nil, 0, errCable
	}
	f.opened++
	return f.world.Open(ctx, h)
}

func TestAnInterruptedBackupIsTakenUp(t *testing.T) {
	w := newWorld(t)
	w.put("H/a", "1")
	for i := range 6 {
		w.blob(fmt.Sprint(i) + strings.Repeat("x", packBytes/2))
	}
	flaky := &flakyBlobs{world: w, left: 5}
	w.config.Blobs = flaky
	if _, err := NewMaker(w.config).Create(t.Context(), false); !errors.Is(err, errCable) {
		t.Fatalf("got %v", err)
	}
	if list, err := w.folder().List(); err != nil || len(list) != 0 {
		t.Fatalf("%v is listed (%v)", list, err)
	}
	w.put("H/a", "2")
	flaky.left, flaky.opened = 100, 0
	m := w.create(false)
	if m.Blobs.Count != 6 || flaky.opened >= 6 {
		t.Errorf("%d blobs, %d of them copied again", m.Blobs.Count, flaky.opened)
	}
	keys, blobs := w.restore(m.Name)
	if keys["H/a"] != "2" || len(blobs) != 6 {
		t.Errorf("restored %v and %d blobs", keys, len(blobs))
	}
}

func TestAFullDiskLosesNothing(t *testing.T) {
	w := newWorld(t)
	w.put("H/a", "1")
	first := w.create(false)
	w.blob("more")
	w.config.ReserveBytes = 1 << 30
	w.config.Free = func(string) (int64, error) { return 1 << 29, nil }
	_, err := NewMaker(w.config).Create(t.Context(), false)
	if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "free some space") {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(w.config.Dir, incomplete)); err == nil {
		t.Error("what was begun fills the disk still")
	}
	w.restore(first.Name)
	c, err := w.folder().Chain(first.Name)
	if err != nil {
		t.Fatal(err)
	}
	o, err := c.Open(&w.root)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Room(t.TempDir(), w.config.Free, 1<<30); !errors.Is(err, ErrNoSpace) {
		t.Errorf("restore: %v", err)
	}
}

func TestOldChainsAreLetGo(t *testing.T) {
	w := newWorld(t)
	w.config.Links = 2
	var names []string
	for i := range 6 {
		w.put("H/a", fmt.Sprint(i))
		names = append(names, w.create(false).Name)
	}
	removed, err := w.folder().Keep("cloister/test", 2)
	if err != nil || !slices.Equal(removed, names[:2]) {
		t.Fatalf("removed %v of %v (%v)", removed, names, err)
	}
	if removed, err := w.folder().Keep("cloister/other", 0); err != nil || len(removed) != 0 {
		t.Fatalf("removed another cluster's %v (%v)", removed, err)
	}
	if keys, _ := w.restore(names[5]); keys["H/a"] != "5" {
		t.Errorf("restored %v", keys)
	}
}
