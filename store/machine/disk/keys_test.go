package disk

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/cloister-os/cloister/store/sealed"
)

type testRing struct {
	active uint32
	keys   map[uint32][]byte
}

func newRing(ids ...uint32) *testRing {
	r := &testRing{keys: map[uint32][]byte{}}
	for _, id := range ids {
		r.keys[id] = make([]byte, 32)
		rand.Read(r.keys[id])
		r.active = id
	}
	return r
}

func (r *testRing) Active() (uint32, []byte)     { return r.active, r.keys[r.active] }
func (r *testRing) Key(id uint32) ([]byte, bool) { k, ok := r.keys[id]; return k, ok }

// openDB opens a database of the folder as openDatabase does.
func openDB(t *testing.T, dir string, ring sealed.Ring) *badger.DB {
	t.Helper()
	key, err := openKeys(dir, ring)
	if err != nil {
		t.Fatal(err)
	}
	db, err := badger.Open(badger.DefaultOptions(dir).WithLogger(nil).WithEncryptionKey(key).WithEncryptionKeyRotationDuration(dataKeyAge).WithIndexCacheSize(1 << 20).WithMemTableSize(1 << 20).WithValueThreshold(1 << 10))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func put(t *testing.T, db *badger.DB, key, value string) {
	t.Helper()
	if err := db.Update(func(txn *badger.Txn) error { return txn.Set([]byte(key), []byte(value)) }); err != nil {
		t.Fatal(err)
	}
}

func has(t *testing.T, db *badger.DB, keys ...string) {
	t.Helper()
	err := db.View(func(txn *badger.Txn) error {
		for _, k := range keys {
			if _, err := txn.Get([]byte(k)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestKeysChangeUnderAnOpenDatabase changes the wrapping key while the database
// is open and written, and drops the old one.
func TestKeysChangeUnderAnOpenDatabase(t *testing.T) {
	dir := t.TempDir()
	ring := newRing(1, 2, 3)
	ring.active = 1
	db := openDB(t, dir, ring)
	put(t, db, "a", "before")
	for _, id := range []uint32{2, 3} {
		from := ring.active
		ring.active = id
		if err := rewrap(dir, ring, from); err != nil {
			t.Fatal(err)
		}
		if now, err := wrappedBy(dir, ring); err != nil || now != id {
			t.Fatal(now, err)
		}
		delete(ring.keys, from)
		put(t, db, "b", "after")
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = openDB(t, dir, ring)
		has(t, db, "a", "b")
	}
	if _, err := os.Stat(filepath.Join(dir, "keys.tmp")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("what the registry was put together in is still there")
	}
}

// TestAnInterruptedChangeGoesOnAtTheNextStart leaves one registry behind the ring.
func TestAnInterruptedChangeGoesOnAtTheNextStart(t *testing.T) {
	dir := t.TempDir()
	ring := newRing(1, 2)
	ring.active = 1
	db := openDB(t, dir, ring)
	put(t, db, "a", "x")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "keys.tmp"), 0o700); err != nil { // and a kill in the middle
		t.Fatal(err)
	}
	ring.active = 2
	has(t, openDB(t, dir, ring), "a")
	if now, err := wrappedBy(dir, ring); err != nil || now != 2 {
		t.Error(now, err)
	}
}

func TestWrongKeysAreRefusedAndNothingIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	ring := newRing(1)
	db := openDB(t, dir, ring)
	put(t, db, "a", "x")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, badger.KeyRegistryFileName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]*testRing{"another node's": newRing(1), "a key that is gone": newRing(5)} {
		if _, err := openKeys(dir, other); !errors.Is(err, ErrKey) || !errors.Is(err, sealed.ErrUnknownKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range good {
		bad := append([]byte(nil), good...)
		bad[i] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := openKeys(dir, ring)
		if left, _ := os.ReadFile(path); string(left) != string(bad) {
			t.Fatalf("byte %d changed: the registry was overwritten", i)
		}
		if err == nil {
			t.Errorf("byte %d changed: opened", i)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := openKeys(dir, ring); !errors.Is(err, ErrKey) {
		t.Errorf("a lost registry: %v", err)
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	has(t, openDB(t, dir, ring), "a")
}
