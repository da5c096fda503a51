package seal

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloister-os/cloister/store/sealed"
)

var _ sealed.Ring = (*Keyring)(nil)

const (
	ringFile    = "keyring.sealed" // this node's data keys, under the root key
	ringVersion = 1
	maxDataKeys = 64 // at once: a rotation drops what nothing uses
)

// DataKey is one of a node's data keys without the key.
type DataKey struct {
	ID      uint32    `json:"id"`
	Created time.Time `json:"created"`
}

// Keyring holds a node's data keys, with which everything on its disk is sealed.
// Each node has its own, so that one node's keys can be changed alone, and one
// node's disk is worth nothing beside another node's keyring. It is safe for
// concurrent use.
type Keyring struct {
	keys *Keys
	node string

	mu  sync.Mutex // held by what changes the file
	now atomic.Pointer[ring]
}

// ring is the keyring at one moment; it is never changed.
type ring struct {
	active dataKey
	all    map[uint32]dataKey
}

// dataKey is a key as it lies, sealed, in the file.
type dataKey struct {
	DataKey
	Key []byte `json:"key"`
}

// ringForm is the file: what it is, in clear, so that whoever looks at the wrong
// one is told, and the keys.
type ringForm struct {
	Version int    `json:"version"`
	Node    string `json:"node"`
	Root    string `json:"root"` // names the root key that it is sealed under
	Sealed  []byte `json:"sealed"`
}

// Keyring opens the node's keyring. It is made when the node has no data yet;
// over data, a missing keyring is an error, since the data could never be read
// with a new one.
func (k *Keys) Keyring(node string, fresh bool) (*Keyring, error) {
	r := &Keyring{keys: k, node: node}
	path := r.path()
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if !fresh {
			return nil, fmt.Errorf("%w: %s is missing, and this node's data cannot be read without it: put it back from its copy, or let the node rejoin with an empty data folder", ErrSeal, path)
		}
		return r, r.begin()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	now, err := r.decode(b)
	if err != nil {
		return nil, err
	}
	r.now.Store(now)
	return r, nil
}

func (r *Keyring) path() string { return filepath.Join(r.keys.dir, ringFile) }

func (r *Keyring) begin() error {
	key := newDataKey(1)
	b, err := r.encode(newRing([]dataKey{key}))
	if err != nil {
		return err
	}
	if err := create(r.keys.dir, ringFile, b, 0o600); err != nil {
		return err
	}
	b, err = os.ReadFile(r.path()) // another process may have been first
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSeal, err)
	}
	now, err := r.decode(b)
	r.now.Store(now)
	return err
}

func newDataKey(id uint32) dataKey {
	key := make([]byte, 32)
	rand.Read(key)
	return dataKey{DataKey{id, time.Now().UTC().Truncate(time.Second)}, key}
}

// newRing makes the newest key the active one.
func newRing(keys []dataKey) *ring {
	r := &ring{all: map[uint32]dataKey{}}
	for _, k := range keys {
		r.all[k.ID] = k
		if k.ID > r.active.ID {
			r.active = k
		}
	}
	return r
}

func (r *Keyring) aad() []byte { return []byte(ringFile + "\x00" + r.node) }

func (r *Keyring) encode(now *ring) ([]byte, error) {
	var list []dataKey
	for _, k := range now.all {
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b dataKey) int { return int(a.ID) - int(b.ID) })
	plain, err := json.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	defer clear(plain)
	box, err := r.keys.Seal(r.aad(), plain)
	if err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(ringForm{ringVersion, r.node, r.keys.rootName(), box}, "", "  ")
	return append(b, '\n'), err
}

// decode opens the file, or says in a sentence which of the things that can be
// wrong with it is.
func (r *Keyring) decode(b []byte) (*ring, error) {
	var f ringForm
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, r.wrong("is damaged: put it back from its copy, or let the node rejoin with an empty data folder")
	}
	switch {
	case f.Version != ringVersion:
		return nil, r.wrong("is of version %d and this program knows version %d: upgrade it", f.Version, ringVersion)
	case f.Root != r.keys.rootName():
		return nil, r.wrong("was sealed under root key %s and this is root key %s: put back the root key, or the keyring, that belongs to the other", f.Root, r.keys.rootName())
	case f.Node != r.node:
		return nil, r.wrong("belongs to node %q and this is node %q: put back this node's own, or start it under its own name", f.Node, r.node)
	}
	plain, err := r.keys.Open(r.aad(), f.Sealed)
	if err != nil {
		return nil, r.wrong("is damaged: put it back from its copy, or let the node rejoin with an empty data folder")
	}
	defer clear(plain)
	var list []dataKey
	if err := json.Unmarshal(plain, &list); err != nil || len(list) == 0 || len(list) > maxDataKeys {
		return nil, r.wrong("is damaged: put it back from its copy, or let the node rejoin with an empty data folder")
	}
	for _, k := range list {
		if k.ID == 0 || len(k.Key) != 32 {
			return nil, r.wrong("is damaged: put it back from its copy, or let the node rejoin with an empty data folder")
		}
	}
	return newRing(list), nil
}

func (r *Keyring) wrong(format string, a ...any) error {
	return fmt.Errorf("%w: %s %s", ErrSeal, r.path(), fmt.Sprintf(format, a...))
}

// rootName tells root keys apart; it says nothing of the key.
func (k *Keys) rootName() string { return hex.EncodeToString(k.derive("root-name/v1", nil)[:8]) }

// Active implements sealed.Ring.
func (r *Keyring) Active() (uint32, []byte) {
	now := r.now.Load()
	return now.active.ID, now.active.Key
}

// Key implements sealed.Ring.
func (r *Keyring) Key(id uint32) ([]byte, bool) {
	k, ok := r.now.Load().all[id]
	return k.Key, ok
}

// Keys lists the data keys, the active one first.
func (r *Keyring) Keys() []DataKey {
	var out []DataKey
	for _, k := range r.now.Load().all {
		out = append(out, k.DataKey)
	}
	slices.SortFunc(out, func(a, b DataKey) int { return int(b.ID) - int(a.ID) })
	return out
}

// Add makes a new data key the active one. It is durable when Add returns, so
// nothing is ever sealed with a key that a crash could take.
func (r *Keyring) Add() (DataKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.now.Load()
	if len(old.all) >= maxDataKeys {
		return DataKey{}, fmt.Errorf("%w: there are %d data keys still in use: wait until the rotations under way are done", ErrSeal, len(old.all))
	}
	key := newDataKey(old.active.ID + 1)
	list := []dataKey{key}
	for _, k := range old.all {
		list = append(list, k)
	}
	return key.DataKey, r.replace(newRing(list))
}

// Drop forgets data keys that nothing uses any more. The active one stays.
func (r *Keyring) Drop(ids ...uint32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.now.Load()
	var list []dataKey
	for id, k := range old.all {
		if id == old.active.ID || !slices.Contains(ids, id) {
			list = append(list, k)
		}
	}
	if len(list) == len(old.all) {
		return nil
	}
	return r.replace(newRing(list))
}

// replace swaps the file, for certain, and then the keys in use. r.mu is held.
func (r *Keyring) replace(now *ring) error {
	b, err := r.encode(now)
	if err != nil {
		return err
	}
	if err := replace(r.keys.dir, ringFile, b, 0o600); err != nil {
		return err
	}
	r.now.Store(now)
	return nil
}

// replace puts a file in place of one that is there: after a crash it is the old
// one or the new one, whole.
func replace(dir, name string, content []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(dir, name+".tmp-*")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSeal, err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	err = errors.Join(tmp.Chmod(mode), write(tmp, content), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return fmt.Errorf("%w: write %s: %w", ErrSeal, name, err)
	}
	return syncDir(dir)
}
