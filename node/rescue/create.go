package rescue

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/backup"
	"github.com/cloister-os/cloister/store/blob"
)

// Create begins a backup and returns once it is under way; List tells how far it
// is. A full one begins a new chain.
func (s *Service) Create(ctx context.Context, p auth.Principal, full bool) error {
	begun := make(chan error, 2)
	s.tasks.Go(func() { begun <- s.create(s.life, p, full, func() { begun <- nil }) })
	select {
	case err := <-begun:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// create makes one backup and then drops the chains that are no longer kept.
func (s *Service) create(ctx context.Context, p auth.Principal, full bool, begun func()) error {
	return s.cfg.Door.Do(ctx, s.request(p, "create", ""), func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		if err := permit.Admit(ctx, auth.BackupManage, auth.TheSystem); err != nil {
			return guard.Outcome{}, err
		}
		if err := s.begin("backup"); err != nil {
			return guard.Outcome{}, err
		}
		begun()
		m, removed, err := s.make(ctx, full)
		s.ended(m.Name, err)
		detail := map[string]any{"backup": m.Name, "at": int64(m.Head.Version)}
		if len(removed) > 0 {
			detail["removed"] = int64(len(removed))
		}
		return guard.Outcome{Usage: map[string]int64{"bytes": m.Bytes()}, Detail: detail}, err
	})
}

func (s *Service) make(ctx context.Context, full bool) (*backup.Manifest, []string, error) {
	if _, err := s.cfg.Audit.Checkpoint(ctx); err != nil { // the log key is known and no epoch is pending
		return &backup.Manifest{}, nil, err
	}
	m, err := s.maker.Create(ctx, full)
	if err != nil {
		return &backup.Manifest{}, nil, err
	}
	removed, err := s.maker.Folder().Keep(m.Cluster, max(1, s.cfg.Keep))
	return m, removed, err
}

// Run makes the scheduled backups until the context ends: on the node that leads,
// when the newest in its folder is older than it should be.
func (s *Service) Run(ctx context.Context) error {
	if s.cfg.Every == 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(min(s.cfg.Every/4, time.Minute))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !s.cfg.Store.Leads() || !s.due() {
			continue
		}
		if err := s.create(ctx, auth.Principal{Kind: auth.System, ID: "backup"}, false, func() {}); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("The scheduled backup was not made.", "error", err)
		}
	}
}

// due reports whether the newest backup is old enough for another.
func (s *Service) due() bool {
	all, err := s.maker.Folder().List()
	if err != nil {
		return true // the folder is not there yet; anything else the backup will say
	}
	for _, e := range all {
		if e.Err == nil && time.Since(e.Manifest.Time) < s.cfg.Every {
			return false
		}
	}
	return true
}

// File writes a backup's file from an offset on, for who takes it away. Not a byte
// is written before the intent is durable.
func (s *Service) File(ctx context.Context, p auth.Principal, name, file string, offset int64, w io.Writer) error {
	return s.cfg.Door.Do(ctx, s.request(p, "take "+file, name), func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		if err := permit.Admit(ctx, auth.BackupManage, auth.TheSystem); err != nil {
			return guard.Outcome{}, err
		}
		if !backup.ValidName(name) || filepath.Base(file) != file || offset < 0 {
			return guard.Outcome{}, fmt.Errorf("%w: there is no such file of a backup", store.ErrNotFound)
		}
		f, err := os.Open(filepath.Join(s.cfg.Dir, name, file))
		if err != nil {
			return guard.Outcome{}, fmt.Errorf("%w: there is no such file of a backup", store.ErrNotFound)
		}
		defer f.Close()
		if _, err := f.Seek(offset, io.SeekStart); err != nil {
			return guard.Outcome{}, err
		}
		n, err := io.Copy(w, f)
		return guard.Outcome{Usage: map[string]int64{"bytes": n}}, err
	})
}

// named lists the blobs that the state names, wherever they are, then those that
// this node holds besides. Opening one that is elsewhere brings it here.
type named struct {
	store store.Store
	blobs *blob.Store
}

// namedPage is how many names are read in one view.
const namedPage = 4096

// List implements backup.Blobs.
func (n named) List(ctx context.Context) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		for after, more := store.Key(""), true; more; {
			page, err := n.page(ctx, after)
			if err != nil {
				yield(blob.Info{}, err)
				return
			}
			for _, item := range page {
				after = item.Key
				info, ok, err := infoOf(item)
				if (ok || err != nil) && !yield(info, err) {
					return
				}
			}
			more = len(page) == namedPage
		}
		n.blobs.List()(yield)
	}
}

func (n named) page(ctx context.Context, after store.Key) (page []store.Item, err error) {
	err = n.store.View(ctx, store.Local, func(s store.Snapshot) error {
		page = page[:0]
		for item, err := range s.Scan(blob.SpaceName.Prefix(), after) {
			if err != nil {
				return err
			}
			if page = append(page, item); len(page) == namedPage {
				return nil
			}
		}
		return nil
	})
	return page, err
}

// infoOf is false for a blob that is garbage.
func infoOf(item store.Item) (blob.Info, bool, error) {
	h, ok := blob.ParseNameKey(item.Key)
	if !ok {
		return blob.Info{}, false, fmt.Errorf("%w: the name of a blob", store.ErrInvalid)
	}
	e, err := blob.DecodeEntry(item.Value)
	return blob.Info{Hash: h, Size: e.Size}, !e.Gone, err
}

// Open implements backup.Blobs.
func (n named) Open(_ context.Context, h blob.Hash) (io.ReadCloser, int64, error) {
	return n.blobs.Open(h)
}
