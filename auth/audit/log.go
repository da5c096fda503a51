package audit

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/cloister-os/cloister/store"
)

// Sealer keeps the openings of personal fields from whoever reads the disk. It
// is what seal.Keys offers.
type Sealer interface {
	Seal(aad, plain []byte) ([]byte, error)
	Open(aad, sealed []byte) ([]byte, error)
}

// Config is what a Log needs. All but Logger are required; Sealer may be nil
// where no personal fields are kept.
type Config struct {
	Store       store.Store
	Signer      note.Signer // Ed25519; its name is the log's origin line
	VerifierKey string      // the public half of Signer in the C2SP "vkey" form
	Sealer      Sealer
	Logger      *slog.Logger // nil = slog.Default
	// Leads says whether this node signs for all; nil = always. It is economy:
	// two that sign make one chain, for each checkpoint is kept on the condition
	// that the one it continues is still the last.
	Leads func() bool
}

// Log signs, reads and exports the audit log. It is safe for concurrent use.
type Log struct {
	store  store.Store
	sealer Sealer
	logger *slog.Logger
	leads  func() bool
	key    atomic.Pointer[signingKey] // changed only by who has the turn

	turn  chan struct{} // holds one token; who takes it may sign, and use begun
	begun bool          // the store agrees with key
}

// New returns a Log. It reads and writes nothing yet.
func New(c Config) (*Log, error) {
	key, err := newSigningKey(c.Signer, c.VerifierKey)
	if err != nil {
		return nil, err
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Leads == nil {
		c.Leads = func() bool { return true }
	}
	l := &Log{store: c.Store, sealer: c.Sealer, logger: c.Logger, leads: c.Leads, turn: make(chan struct{}, 1)}
	l.key.Store(key)
	l.turn <- struct{}{}
	return l, nil
}

// take waits for the turn to sign; give returns it.
func (l *Log) take(ctx context.Context) error {
	select {
	case <-l.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *Log) give() { l.turn <- struct{}{} }

// Fingerprint is the fingerprint of the log key, to be noted at setup and given
// to cloister-verify.
func (l *Log) Fingerprint() string { return l.key.Load().fingerprint }

// Entry is a record as the log holds it.
type Entry struct {
	Seq     uint64
	Version store.Version
	Time    time.Time // leader time of its group
	Record  Record
	Leaf    []byte // the canonical JSON
}

// Checkpoint is a signed statement of the log's size and root.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   [32]byte
	Epoch  uint64
	// EpochID tells apart two epochs of one number; empty in the first epoch.
	EpochID string
	Time    time.Time // leader time of the newest group it covers
	Note    []byte    // the signed note, as it is published
}

// run is how often Run looks whether the log grew, and when it then signs.
const (
	lookEvery   = 100 * time.Millisecond
	signEvery   = time.Second
	signRecords = 1000
)

// Run signs a checkpoint one second or 1,000 records after the last, whenever
// the log grew, on the node that leads, until the context ends (nil) or the log
// contradicts its own last checkpoint (ErrForked) or key (ErrKey), which no retry
// heals.
func (l *Log) Run(ctx context.Context) error {
	return l.run(ctx)
}
