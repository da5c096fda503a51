// Package rescue makes backups of a cluster that runs, and brings it back to one,
// behind the door.
//
// It promises: whoever makes, lists, takes away or restores a backup is on the
// record, and so is every scheduled one; a restore is checked to its last byte
// before anything is replaced, is refused for another cluster's backup, and opens
// an epoch of the audit log; the log's key vouches for every backup that is made
// or accepted here.
//
// It may import store, store/backup, store/blob, store/machine and auth.
package rescue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/audit/proof"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/backup"
	"github.com/cloister-os/cloister/store/blob"
)

// Store is what a rescue asks of the store. *consensus.Node is one.
type Store interface {
	store.Store
	backup.Stager
	Restore(ctx context.Context, r io.Reader, size int64) error
	Leads() bool
}

// Config is what a Service works with.
type Config struct {
	Dir      string // of backups
	Node     string
	Program  string
	Store    Store
	Blobs    *blob.Store
	Keys     *seal.Keys
	Audit    *audit.Log
	Door     guard.Door
	Recovery string        // public recovery key; "" = none
	Every    time.Duration // between scheduled backups; 0 = none are made
	Keep     int           // chains of backups that are kept
	Reserve  int64         // bytes that stay free where backups are written
	Data     string        // the node's folder, for the room that a restore takes
	Logger   *slog.Logger  // nil = slog.Default
}

// Service makes and restores backups. It is safe for concurrent use.
type Service struct {
	cfg   Config
	maker *backup.Maker

	life  context.Context // of work that outlives its request
	end   context.CancelFunc
	tasks sync.WaitGroup

	mu    sync.Mutex // guards all below
	doing string     // "", "backup" or "restore"
	state backup.Progress
	last  Last
}

// Last is how the newest work ended.
type Last struct {
	What  string    `json:"what"` // "backup" or "restore"; "" = none since the start
	Name  string    `json:"name,omitempty"`
	Error string    `json:"error,omitempty"`
	Ended time.Time `json:"ended,omitzero"`
}

// New returns a Service. Close ends what it does.
func New(c Config) *Service {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s := &Service{cfg: c}
	s.life, s.end = context.WithCancel(context.Background())
	s.maker = backup.NewMaker(backup.Config{
		Dir: c.Dir, Cluster: c.Keys.LogSigner().Name(), Node: c.Node, Program: c.Program,
		Data: c.Store, Blobs: named{c.Store, c.Blobs}, Sealer: c.Keys, Sign: s.sign, Verify: Verifier(c.Audit.Fingerprint()),
		Lineage: c.Audit.Lineage, Keys: s.keys, Seal: s.seal, ReserveBytes: c.Reserve, Logger: c.Logger,
	})
	return s
}

// Close ends what is under way; a backup is taken up by the next.
func (s *Service) Close() error {
	s.end()
	s.tasks.Wait()
	return nil
}

// Verifier opens manifests that the log of the fingerprint signed.
func Verifier(fingerprint string) backup.VerifyFunc {
	return func(note []byte, keys json.RawMessage) (string, error) {
		text, err := proof.OpenNote(note, keys, fingerprint)
		if proof.OtherLog(err) {
			return "", fmt.Errorf("%w: %w", backup.ErrForeign, err)
		}
		return text, err
	}
}

func (s *Service) sign(text string) ([]byte, error) {
	return note.Sign(&note.Note{Text: text}, s.cfg.Keys.LogSigner())
}

func (s *Service) keys(ctx context.Context) (json.RawMessage, error) {
	keys, err := s.cfg.Audit.Keys(ctx)
	if err == nil && len(keys) == 0 {
		err = errors.New("the audit log has no key yet: try again in a moment")
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(keys)
}

func (s *Service) seal() (files map[string][]byte, recovery []byte, err error) {
	if files, err = s.cfg.Keys.BackupFiles(); err == nil && s.cfg.Recovery != "" {
		recovery, err = s.cfg.Keys.SealRoot(s.cfg.Recovery)
	}
	return files, recovery, err
}

// status says what is being done and how the last work ended.
func (s *Service) status() (p backup.Progress, doing string, last Last) {
	making, ok := s.maker.Progress()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doing == "backup" && ok {
		return making, s.doing, s.last
	}
	return s.state, s.doing, s.last
}

// begin takes the turn for a backup or a restore.
func (s *Service) begin(what string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doing != "" {
		return fmt.Errorf("%w: a %s is under way: wait until it is done", store.ErrBusy, s.doing)
	}
	s.doing, s.last, s.state = what, Last{}, backup.Progress{}
	return nil
}

// ended gives the turn back.
func (s *Service) ended(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = Last{What: s.doing, Name: name, Ended: time.Now().UTC()}
	if err != nil {
		s.last.Error = err.Error()
		s.cfg.Logger.Warn("The "+s.doing+" failed.", "error", err)
	}
	s.doing = ""
}

func (s *Service) request(p auth.Principal, what, name string) guard.Request {
	detail := map[string]any{"what": what}
	if name != "" {
		detail["backup"] = name
	}
	return guard.Request{Principal: p, Action: auth.BackupManage, Resource: auth.TheSystem, Args: detail, Detail: detail, Within: 24 * time.Hour}
}

// Page is what the folder of backups holds and what is being done.
type Page struct {
	Node     string
	Dir      string
	Backups  []backup.Entry
	Running  string // "", "backup" or "restore"
	Progress backup.Progress
	Last     Last
}

// List lists the backups of this node's folder.
func (s *Service) List(ctx context.Context, p auth.Principal) (Page, error) {
	page := Page{Node: s.cfg.Node, Dir: s.cfg.Dir}
	err := s.cfg.Door.Read(ctx, s.request(p, "list", ""), func(context.Context, *guard.Permit) (guard.Outcome, error) {
		page.Progress, page.Running, page.Last = s.status()
		var err error
		if page.Backups, err = s.maker.Folder().List(); errors.Is(err, fs.ErrNotExist) {
			err = nil // none was made yet
		}
		return guard.Outcome{Usage: map[string]int64{"rows": int64(len(page.Backups))}}, err
	})
	if err != nil {
		return Page{}, err
	}
	return page, nil
}
