package sealed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// maxFolderKeys is how many keys a folder remembers: what was sealed so many
// changes ago and never written since can no longer be read.
const maxFolderKeys = 64

// Folder is the ring of one folder of derived data whose files change hands too
// slowly, or in a library's own time, to be sealed anew when the node's key
// changes. It has random keys of its own, which lie in a file of the folder sealed
// under the node's ring. A change of the node's key seals that file anew and adds a
// key for what is written from then on. It is safe for concurrent use.
type Folder struct {
	ring Ring
	path string

	mu   sync.Mutex // held by what changes the file
	keys atomic.Pointer[folderKeys]
}

var _ Ring = (*Folder)(nil)

// folderKeys are the keys first, first+1, … ; they are never changed.
type folderKeys struct {
	wrapped uint32 // id of the node's key that the file is sealed with
	first   uint32
	keys    [][keyBytes]byte
}

// OpenFolder opens the keys that lie in the file at path, making them when there
// are none.
func OpenFolder(path string, ring Ring) (*Folder, error) {
	f := &Folder{ring: ring, path: path}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, f.write(&folderKeys{first: 1, keys: [][keyBytes]byte{freshKey()}})
	}
	if err != nil {
		return nil, fmt.Errorf("read the keys of a folder: %w", err)
	}
	k, err := f.decode(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f.keys.Store(k)
	return f, nil
}

func freshKey() (k [keyBytes]byte) {
	random(k[:])
	return k
}

const folderPurpose = "folder"

func (f *Folder) decode(b []byte) (*folderKeys, error) {
	plain, err := NewBox(f.ring, folderPurpose).Open(nil, []byte(filepath.Base(f.path)), b)
	if err != nil {
		return nil, err
	}
	n := (len(plain) - idBytes) / keyBytes
	if n < 1 || len(plain) != idBytes+n*keyBytes {
		return nil, ErrDamaged
	}
	k := &folderKeys{wrapped: RecordKey(b), first: binary.BigEndian.Uint32(plain)}
	for i := range n {
		k.keys = append(k.keys, [keyBytes]byte(plain[idBytes+i*keyBytes:]))
	}
	return k, nil
}

// write replaces the file, for certain, and then the keys in use.
func (f *Folder) write(k *folderKeys) error {
	plain := binary.BigEndian.AppendUint32(nil, k.first)
	for _, key := range k.keys {
		plain = append(plain, key[:]...)
	}
	b, err := NewBox(f.ring, folderPurpose).Seal(nil, []byte(filepath.Base(f.path)), plain)
	clear(plain)
	if err != nil {
		return err
	}
	tmp := f.path + ".new"
	file, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write the keys of a folder: %w", err)
	}
	_, err = file.Write(b)
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(tmp, f.path)
	}
	if err != nil {
		return fmt.Errorf("write the keys of a folder: %w", err)
	}
	d, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return fmt.Errorf("write the keys of a folder: %w", err)
	}
	k.wrapped = RecordKey(b)
	f.keys.Store(k)
	return errors.Join(d.Sync(), d.Close())
}

// Active implements Ring.
func (f *Folder) Active() (uint32, []byte) {
	k := f.keys.Load()
	last := len(k.keys) - 1
	return k.first + uint32(last), k.keys[last][:]
}

// Key implements Ring.
func (f *Folder) Key(id uint32) ([]byte, bool) {
	k := f.keys.Load()
	if id < k.first || id-k.first >= uint32(len(k.keys)) {
		return nil, false
	}
	return k.keys[id-k.first][:], true
}

// Rekey seals the keys under the node's active key and adds one, unless that was
// done already.
func (f *Folder) Rekey() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.keys.Load()
	if active, _ := f.ring.Active(); old.wrapped == active {
		return nil
	}
	next := &folderKeys{first: old.first, keys: append(append([][keyBytes]byte(nil), old.keys...), freshKey())}
	if over := len(next.keys) - maxFolderKeys; over > 0 {
		next.first, next.keys = next.first+uint32(over), next.keys[over:]
	}
	return f.write(next)
}

// Wrapped is the id of the node's key that the folder's keys are sealed with.
func (f *Folder) Wrapped() uint32 { return f.keys.Load().wrapped }
