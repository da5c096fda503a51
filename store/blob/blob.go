// Package blob keeps content-addressed files: a blob's name is the SHA-256 of
// its bytes, so it never changes, and a name in a transaction says exactly
// which bytes were meant.
//
// It promises: when Put returns, the bytes and their name are durable here, and
// when Secure returns, on min(2, voters) nodes, so the transaction that names
// them may be applied; a crash leaves a whole blob or none (and at most a
// temporary file, removed by the next Open); a read never returns bytes that do
// not belong to the name, and mends what is missing or damaged from another node
// (Remote); what was put lately is not deleted, named or not (DeleteOlder).
//
// Package exchange carries blobs between nodes, package replica decides which
// node holds which.
//
// With a Ring, files are encrypted on the disk; a blob's name stays the hash of
// its plain bytes, and other nodes, which have keys of their own, get those.
//
// It may import store and store/sealed.
package blob

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cloister-os/cloister/store/sealed"
)

// The ways a blob can fail.
var (
	ErrNotFound = errors.New("blob not found")
	ErrCorrupt  = errors.New("blob is damaged: its bytes do not match its name")
	ErrTooLarge = errors.New("too large for one blob")
)

// Hash is the SHA-256 of a blob's bytes and so its name.
type Hash [32]byte

// String is the hash in lower-case hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText makes the hash hexadecimal in JSON.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText undoes MarshalText.
func (h *Hash) UnmarshalText(b []byte) (err error) {
	*h, err = Parse(string(b))
	return err
}

// Parse undoes String.
func Parse(s string) (Hash, error) {
	var h Hash
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("%q is not a SHA-256 in hexadecimal", s)
	}
	copy(h[:], b)
	return h, nil
}

// DefaultMaxBytes bounds one blob: large enough for a model's weights.
const DefaultMaxBytes = 64 << 30

// verifiedMax is how many names are remembered as read and found whole.
const verifiedMax = 4096

// Store is a folder of blobs. It is safe for concurrent use; only one Store may
// be open on a folder.
type Store struct {
	dir      string
	maxBytes int64
	writable func() error // why nothing may be written now; see Reserve
	remote   Remote       // nil = a node alone; see Join
	ring     sealed.Ring  // nil = files are plain; see WithRing

	// life is read-held while a Put finds that a blob is there and says that it
	// was put again, and held while one is deleted for its age.
	life sync.RWMutex

	mu       sync.Mutex
	verified map[Hash]stamp // files found whole since Open, as they were then
	folders  map[string]bool
	open     map[uint32]int // files being written, by the key they are sealed with
}

// stamp tells whether a file has been touched since it was verified.
type stamp struct {
	size    int64
	mtimeNs int64
}

// Option changes how a folder is opened.
type Option func(*Store)

// WithRing encrypts the files. All of a folder's files are, or none.
func WithRing(r sealed.Ring) Option { return func(s *Store) { s.ring = r } }

// Open opens the folder, makes it if need be, and removes what a crash left.
func Open(dir string, options ...Option) (*Store, error) {
	s := &Store{dir: dir, maxBytes: DefaultMaxBytes, writable: always, verified: map[Hash]stamp{}, folders: map[string]bool{}, open: map[uint32]int{}}
	for _, o := range options {
		o(s)
	}
	if err := os.RemoveAll(s.tmp()); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	if err := errors.Join(os.MkdirAll(s.tmp(), 0o700), s.sweepPartials(time.Now().Add(-stalePartial))); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	if err := syncFolder(dir); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	return s, nil
}

// Reserve makes Put fail with the error of writable while there is one, also in the
// middle of a blob: so blobs leave the space free that the log beside them needs.
// Call it before the first Put.
func (s *Store) Reserve(writable func() error) { s.writable = writable }

func always() error { return nil }

func (s *Store) folder(h Hash) string { return filepath.Join(s.dir, hex.EncodeToString(h[:1])) }

func (s *Store) path(h Hash) string { return filepath.Join(s.folder(h), h.String()) }
