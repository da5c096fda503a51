package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/cloister-os/cloister/store/sealed"
)

// Badger encrypts with data keys of its own, which lie in a file of the database's
// folder, the registry, wrapped by a key of the node's ring. The registry is only
// ever replaced as a whole, here: Badger appends to it when a data key has
// reached an age, which a power cut may tear, and which a running database would
// do to a file that was replaced meanwhile. So that age is never reached; each
// change of the node's key brings a data key for what the next start writes.
const (
	dataKeyAge = 40 * 365 * 24 * time.Hour // less than since 1970: a registry without a key gets one
	maxKeyIDs  = 1024                      // keys of the ring that are tried

	// indexBytes bounds the decrypted indexes of each database's tables (about 3 %
	// of the data), which plain ones are read from the file for. Every read of a
	// table whose index is not among them decrypts it again.
	indexBytes = 32 << 20
)

// ErrKey is the kind of every error about a database's keys.
var ErrKey = errors.New("the database's keys cannot be opened")

func wrappingKey(key []byte) []byte { return sealed.Derive(key, "badger") }

// openKeys returns the key that a database opens with. A new database gets a
// registry; one that is wrapped by an older key is wrapped by the active one, so
// that a change of keys that was interrupted goes on.
func openKeys(dir string, ring sealed.Ring) ([]byte, error) {
	if ring == nil {
		return nil, nil
	}
	if err := MakeDir(dir); err != nil { // the registry's folder must not vanish from around it
		return nil, err
	}
	id, key := ring.Active()
	now, err := wrappedBy(dir, ring)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Join(dir, badger.ManifestFilename)); err == nil {
			return nil, fmt.Errorf("%w: %s is missing: put it back from its copy, or let the node rejoin", ErrKey, filepath.Join(dir, badger.KeyRegistryFileName))
		}
		if err := writeKeys(dir, nil, wrappingKey(key)); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case now != id:
		if err := rewrap(dir, ring, now); err != nil {
			return nil, err
		}
	}
	return wrappingKey(key), nil
}

// rewrap wraps a database's data keys, and a new one, by the active key. The
// database may be open: it goes on with the keys that it has.
func rewrap(dir string, ring sealed.Ring, from uint32) error {
	old, ok := ring.Key(from)
	if !ok {
		return fmt.Errorf("%w: key %d: %w", ErrKey, from, sealed.ErrUnknownKey)
	}
	keys, err := readKeys(dir, wrappingKey(old))
	if err != nil {
		return err
	}
	_, key := ring.Active()
	return writeKeys(dir, keys, wrappingKey(key))
}

// wrappedBy is the id of the ring's key that a database's registry is wrapped by.
// The registry does not say, but it says whether a key is the right one.
func wrappedBy(dir string, ring sealed.Ring) (uint32, error) {
	if _, err := os.Stat(filepath.Join(dir, badger.KeyRegistryFileName)); err != nil {
		return 0, err
	}
	active, _ := ring.Active()
	for id := active; id > 0 && active-id < maxKeyIDs; id-- {
		key, ok := ring.Key(id)
		if !ok {
			continue
		}
		_, err := readKeys(dir, wrappingKey(key))
		if err == nil {
			return id, nil
		}
		if !errors.Is(err, badger.ErrEncryptionKeyMismatch) {
			return 0, err
		}
	}
	return 0, fmt.Errorf("%w: %s: %w", ErrKey, filepath.Join(dir, badger.KeyRegistryFileName), sealed.ErrUnknownKey)
}

func readKeys(dir string, key []byte) (*badger.KeyRegistry, error) {
	r, err := badger.OpenKeyRegistry(badger.KeyRegistryOptions{Dir: dir, ReadOnly: true, EncryptionKey: key})
	if err != nil {
		return nil, fmt.Errorf("%w: %s is damaged or of another node, put it back from its copy: %w", ErrKey, filepath.Join(dir, badger.KeyRegistryFileName), err)
	}
	return r, nil
}

// writeKeys replaces a database's registry, in one step, by one that holds the
// keys and a new one. It is put together beside it.
func writeKeys(dir string, keys *badger.KeyRegistry, key []byte) error {
	tmp := filepath.Join(dir, "keys.tmp")
	if err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(tmp, 0o700)); err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	defer os.RemoveAll(tmp)
	o := badger.KeyRegistryOptions{Dir: tmp, EncryptionKey: key} // age 0: a new key at once
	if keys != nil {
		if err := badger.WriteKeyRegistry(keys, o); err != nil {
			return fmt.Errorf("%w: %w", ErrKey, err)
		}
	}
	next, err := badger.OpenKeyRegistry(o)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	_, err = next.LatestDataKey()
	if err = errors.Join(err, next.Close()); err == nil {
		err = badger.WriteKeyRegistry(next, badger.KeyRegistryOptions{Dir: dir, EncryptionKey: key})
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	return nil
}

// Rekey wraps the data keys of both databases by the ring's active key. They stay
// open.
func (p *pair) Rekey() error {
	if p.ring == nil {
		return nil
	}
	active, _ := p.ring.Active()
	for _, name := range names {
		dir := filepath.Join(p.dir, name)
		now, err := wrappedBy(dir, p.ring)
		if err == nil && now != active {
			err = rewrap(dir, p.ring, now)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Keys are the ids of the ring's keys that the databases need.
func (p *pair) Keys() ([]uint32, error) {
	if p.ring == nil {
		return nil, nil
	}
	var ids []uint32
	for _, name := range names {
		id, err := wrappedBy(filepath.Join(p.dir, name), p.ring)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}
