package backup

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
)

// Config is what a Maker needs. All fields without "nil" or "0" are required.
type Config struct {
	Dir     string // the folder of backups; made when missing
	Cluster string // the audit log's origin, which no two clusters share
	Node    string
	Program string // its version
	Data    Stager
	Blobs   Blobs
	Sealer  Sealer
	Sign    func(text string) ([]byte, error)
	Verify  VerifyFunc
	// Lineage is the lineage that the versions belong to; see Manifest.
	Lineage func(context.Context) (string, error)
	// Keys is the key history by which the signature is checked.
	Keys func(context.Context) (json.RawMessage, error)
	// Seal returns the sealed files that a restored cluster needs beside its root
	// key, and the root key for the holder of the recovery key (nil = none is set).
	Seal func() (files map[string][]byte, recovery []byte, err error)
	// ReserveBytes stay free on the disk of Dir.
	ReserveBytes int64
	Free         func(dir string) (int64, error) // nil = FreeBytes
	Links        int                             // backups of one chain; 0 = 24
	Now          func() time.Time                // nil = time.Now
	Logger       *slog.Logger                    // nil = slog.Default
}

// Maker makes backups, one at a time. It is safe for concurrent use.
type Maker struct {
	cfg     Config
	making  sync.Mutex
	mu      sync.Mutex // guards progress
	running bool
	state   Progress
}

// NewMaker returns a Maker.
func NewMaker(c Config) *Maker {
	if c.Free == nil {
		c.Free = FreeBytes
	}
	if c.Links == 0 {
		c.Links = 24
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return &Maker{cfg: c}
}

// Folder is the folder that backups are made in.
func (m *Maker) Folder() Folder { return Folder{Dir: m.cfg.Dir, Verify: m.cfg.Verify} }

// Progress says how far the backup under way is; ok is false when there is none.
func (m *Maker) Progress() (p Progress, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state, m.running
}

func (m *Maker) report(running bool, p Progress) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running, m.state = running, p
}

// incomplete is the folder of a backup in the making.
const incomplete = ".incomplete"

// Create makes a backup: one that continues the newest of the folder when that
// one is whole and of the same lineage, otherwise, or when full, the first of a
// new chain. What an interrupted one has copied of the blobs is used.
func (m *Maker) Create(ctx context.Context, full bool) (*Manifest, error) {
	if !m.making.TryLock() {
		return nil, refuse(ErrBusy, "a backup is being made already: wait until it is done")
	}
	defer m.making.Unlock()
	defer m.report(false, Progress{})
	m.report(true, Progress{Step: "databases"})
	man, err := m.create(ctx, full)
	if errors.Is(err, ErrNoSpace) { // what was copied would keep the disk full
		err = errors.Join(err, os.RemoveAll(filepath.Join(m.cfg.Dir, incomplete)))
	}
	return man, err
}

func (m *Maker) create(ctx context.Context, full bool) (*Manifest, error) {
	dir := filepath.Join(m.cfg.Dir, incomplete)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of backups: %w", err)
	}
	lock, err := lockFolder(m.cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	w, err := m.begin(ctx, dir, full)
	if err != nil {
		return nil, err
	}
	if err := w.databases(ctx); err != nil {
		return nil, err
	}
	if err := w.copyBlobs(ctx); err != nil {
		return nil, err
	}
	return w.seal(ctx)
}

// lockFolder keeps two processes from making backups in one folder.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the folder of backups: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errors.Join(refuse(ErrBusy, "another process makes a backup in %s: wait until it is done", dir), f.Close())
	}
	return f, nil // a file system without locks has none
}

// making is a backup on its way.
type making struct {
	m      *Maker
	dir    string
	key    *keyRing
	man    Manifest
	parent *Chain // nil = the first of its chain
	space  *space
	pack   *packer
}

func (m *Maker) begin(ctx context.Context, dir string, full bool) (*making, error) {
	lineage, err := m.cfg.Lineage(ctx)
	if err != nil {
		return nil, err
	}
	w := &making{
		m: m, dir: dir, space: &space{dir: m.cfg.Dir, reserve: m.cfg.ReserveBytes, free: m.cfg.Free},
		man: Manifest{Backup: manifestVersion, Format: store.Format, Cluster: m.cfg.Cluster, Node: m.cfg.Node, Program: m.cfg.Program, Lineage: lineage},
	}
	if !full {
		if w.parent, err = m.newest(lineage); err != nil {
			return nil, err
		}
	}
	if err := w.openKey(); err != nil {
		return nil, err
	}
	w.pack = &packer{dir: dir, id: w.man.ID, key: w.key, space: w.space}
	return w, w.pack.take(ctx)
}

// newest is the chain to continue, nil when a new one must begin.
func (m *Maker) newest(lineage string) (*Chain, error) {
	f := m.Folder()
	all, err := f.List()
	if err != nil {
		return nil, err
	}
	var best *Manifest
	for _, e := range all {
		if e.Err != nil {
			m.cfg.Logger.Warn("a backup cannot be used", "backup", e.Name, "error", e.Err)
			continue
		}
		if e.Manifest.Cluster == m.cfg.Cluster && e.Manifest.Lineage == lineage && (best == nil || e.Manifest.Head.Version >= best.Head.Version) {
			best = e.Manifest
		}
	}
	if best == nil {
		return nil, nil
	}
	c, err := f.Chain(best.Name)
	if err == nil {
		err = c.present()
	}
	if err != nil {
		m.cfg.Logger.Warn("the newest backup cannot be continued, so a new chain begins", "error", err)
		return nil, nil
	}
	if c.Len() >= m.cfg.Links {
		return nil, nil
	}
	return c, nil
}

// present looks whether every file is there in its size.
func (c *Chain) present() error {
	for _, l := range c.links {
		for _, f := range l.Files {
			info, err := os.Stat(filepath.Join(l.dir, f.Name))
			if err != nil || info.Size() != f.Bytes {
				return refuse(ErrDamaged, "the backup %s is damaged: its file %s is missing or cut", l.Name, f.Name)
			}
		}
	}
	return nil
}

// pendingKey is what the folder of a backup in the making holds of its key.
type pendingKey struct {
	ID  string `json:"id"`
	Key []byte `json:"key"`
}

// openKey takes up the key of an interrupted backup, or begins with a new one.
func (w *making) openKey() error {
	path := filepath.Join(w.dir, ".key")
	var have pendingKey
	b, err := os.ReadFile(path)
	if err == nil && json.Unmarshal(b, &have) == nil {
		if key, err := unwrap(w.m.cfg.Sealer, have.ID, have.Key); err == nil {
			w.key, w.man.ID, w.man.Key = key, have.ID, have.Key
			return nil
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("take up the backup in the making: %w", err)
	}
	if err := errors.Join(os.RemoveAll(w.dir), os.Mkdir(w.dir, 0o700)); err != nil {
		return fmt.Errorf("clear the backup in the making: %w", err)
	}
	w.key = &keyRing{}
	rand.Read(w.key[:])
	w.man.ID = rand.Text()
	if w.man.Key, err = w.m.cfg.Sealer.Seal(keyAAD(w.man.ID), w.key[:]); err != nil {
		return fmt.Errorf("seal the backup's key: %w", err)
	}
	if b, err = json.Marshal(pendingKey{w.man.ID, w.man.Key}); err != nil {
		return err
	}
	return writeWhole(w.dir, ".key", b)
}

func unwrap(s Sealer, id string, wrapped []byte) (*keyRing, error) {
	b, err := s.Open(keyAAD(id), wrapped)
	if err != nil || len(b) != len(keyRing{}) {
		return nil, refuse(ErrKey, "the root key given does not open this backup: give the root key of the cluster that made it")
	}
	return (*keyRing)(b), nil
}

// databases stages what came since the parent.
func (w *making) databases(ctx context.Context) error {
	since := store.Version(0)
	if w.parent != nil {
		since = w.parent.Last().Head.Version
		last := w.parent.links[len(w.parent.links)-1]
		w.man.Parent = &Parent{Name: last.Name, At: since, SHA256: last.sum}
	}
	var files []*fileWriter
	defer func() {
		for _, f := range files {
			f.drop()
		}
	}()
	var err error
	w.man.Head, w.man.Parts, err = w.m.cfg.Data.StageSince(ctx, since, func(db store.Database) (io.Writer, error) {
		name := partNames[0]
		if db == store.History {
			name = partNames[1]
		}
		f, err := createFile(w.dir, name, w.man.ID, w.key, w.space)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
		return f, nil
	})
	if err != nil {
		return fmt.Errorf("back up the databases: %w", err)
	}
	for _, f := range files {
		done, err := f.finish()
		if err != nil {
			return err
		}
		w.man.Files = append(w.man.Files, done)
	}
	files = nil
	return nil
}

// copyBlobs copies the blobs that neither the chain nor the interrupted backup has.
func (w *making) copyBlobs(ctx context.Context) error {
	have := map[blob.Hash]bool{}
	if w.parent != nil {
		for _, l := range w.parent.links {
			key, err := unwrap(w.m.cfg.Sealer, l.ID, l.Key)
			if err != nil {
				return err
			}
			if err := readIndex(l, key, have); err != nil {
				return err
			}
		}
	}
	for _, b := range w.pack.blobs {
		have[b.Hash] = true
	}
	p := Progress{Step: "blobs"}
	for info, err := range w.m.cfg.Blobs.List(ctx) {
		if err != nil {
			return fmt.Errorf("back up the blobs: %w", err)
		}
		if !have[info.Hash] {
			p.Total += info.Size
		}
	}
	w.m.report(true, p)
	defer func() {
		if w.pack.out != nil {
			w.pack.out.drop()
		}
	}()
	for info, err := range w.m.cfg.Blobs.List(ctx) {
		if err != nil {
			return fmt.Errorf("back up the blobs: %w", err)
		}
		if have[info.Hash] {
			continue
		}
		have[info.Hash] = true
		if err := w.copyBlob(ctx, info.Hash, func(n int64) { p.Done += n; w.m.report(true, p) }); err != nil {
			return err
		}
	}
	return w.pack.finish()
}

func (w *making) copyBlob(ctx context.Context, h blob.Hash, read func(int64)) error {
	r, size, err := w.m.cfg.Blobs.Open(ctx, h)
	if errors.Is(err, blob.ErrNotFound) {
		return nil // let go of since it was listed
	}
	if err != nil {
		return fmt.Errorf("back up the blob %s: %w", h, err)
	}
	return errors.Join(w.pack.add(ctx, h, size, r, read), r.Close())
}

// seal writes index and manifest and gives the backup its name.
func (w *making) seal(ctx context.Context) (*Manifest, error) {
	index, err := w.pack.index()
	if err != nil {
		return nil, err
	}
	w.man.Files = append(append(w.man.Files, w.pack.files...), index)
	for _, b := range w.pack.blobs {
		w.man.Blobs.Count++
		w.man.Blobs.Bytes += b.Size
	}
	if w.man.Seal, w.man.Recovery, err = w.m.cfg.Seal(); err != nil {
		return nil, err
	}
	if w.man.Keys, err = w.m.cfg.Keys(ctx); err != nil {
		return nil, err
	}
	w.name()
	text, err := w.man.text()
	if err != nil {
		return nil, err
	}
	note, err := w.m.cfg.Sign(text)
	if err != nil {
		return nil, fmt.Errorf("sign the backup: %w", err)
	}
	if lineage, err := w.m.cfg.Lineage(ctx); err != nil || lineage != w.man.Lineage {
		return nil, errors.Join(refuse(ErrBusy, "the cluster was restored while the backup was made: begin again"), err)
	}
	if err := w.clean(); err != nil {
		return nil, err
	}
	if err := errors.Join(writeWhole(w.dir, manifestName, note), syncDir(w.dir)); err != nil {
		return nil, err
	}
	if err := os.Rename(w.dir, filepath.Join(w.m.cfg.Dir, w.man.Name)); err != nil {
		return nil, fmt.Errorf("name the backup: %w", err)
	}
	return &w.man, syncDir(w.m.cfg.Dir)
}

// name finds a name that is free.
func (w *making) name() {
	w.man.Time = w.m.cfg.Now().UTC().Truncate(time.Second)
	for {
		w.man.Name = nameOf(w.man.Time, w.man.Head.Version)
		if _, err := os.Lstat(filepath.Join(w.m.cfg.Dir, w.man.Name)); err != nil {
			return
		}
		w.man.Time = w.man.Time.Add(time.Second)
	}
}

// clean removes what does not belong to the backup.
func (w *making) clean() error {
	list, err := os.ReadDir(w.dir)
	if err != nil {
		return fmt.Errorf("finish the backup: %w", err)
	}
	for _, e := range list {
		if _, ours := w.man.file(e.Name()); ours && !strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := os.Remove(filepath.Join(w.dir, e.Name())); err != nil {
			return fmt.Errorf("finish the backup: %w", err)
		}
	}
	return nil
}
