package blob

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/cloister-os/cloister/store/sealed"
)

// writing counts the files that are being written, by their keys.
func (s *Store) writing(key uint32, by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[key] += by; s.open[key] == 0 {
		delete(s.open, key)
	}
}

// Rekey seals with the ring's active key every file that was sealed with another,
// one after the other; those that are being read stay readable. It may be ended
// at any moment: each file is the old one or the new one.
func (s *Store) Rekey(ctx context.Context) error {
	if s.ring == nil {
		return nil
	}
	return s.eachFile(func(path string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		active, _ := s.ring.Active()
		id, _, err := fileKey(path)
		if gone(err) || err == nil && id == active {
			return nil
		}
		if err == nil {
			err = s.rewrite(ctx, path)
		}
		if errors.Is(err, ErrCorrupt) || errors.Is(err, sealed.ErrNotSealed) {
			return nil // it is found, and mended, when it is read
		}
		return err
	})
}

// Keys are the ids of the ring's keys that files, also those being written, need.
func (s *Store) Keys(ctx context.Context) ([]uint32, error) {
	if s.ring == nil {
		return nil, nil
	}
	needed := map[uint32]bool{}
	s.mu.Lock()
	for id := range s.open {
		needed[id] = true
	}
	s.mu.Unlock()
	err := s.eachFile(func(path string) error {
		id, readable, err := fileKey(path)
		if readable {
			needed[id] = true
		}
		if gone(err) || errors.Is(err, sealed.ErrNotSealed) {
			err = nil
		}
		return errors.Join(err, ctx.Err())
	})
	var ids []uint32
	for id := range needed {
		ids = append(ids, id)
	}
	return ids, err
}

// fileKey is the key that a file is sealed with.
func fileKey(path string) (id uint32, readable bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	id, err = sealed.FileKey(f)
	return id, err == nil, err
}

// eachFile passes every file of the folder. A file that is put meanwhile goes from
// one of the folders to a later one, so it is not missed.
func (s *Store) eachFile(do func(path string) error) error {
	folders := []string{s.tmp()}
	parts, err := os.ReadDir(s.parts())
	if err != nil && !gone(err) {
		return fmt.Errorf("list blobs: %w", err)
	}
	for _, p := range parts {
		folders = append(folders, filepath.Join(s.parts(), p.Name()))
	}
	for first := range 256 {
		folders = append(folders, filepath.Join(s.dir, hex.EncodeToString([]byte{byte(first)})))
	}
	for _, dir := range folders {
		entries, err := os.ReadDir(dir)
		if err != nil && !gone(err) {
			return fmt.Errorf("list blobs: %w", err)
		}
		for _, e := range entries {
			if e.IsDir() {
				continue
			}
			if err := do(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// rewrite puts a file sealed with the active key in the place of one that is
// sealed with another. It keeps its time, which says when the blob was put, and
// it does not come back when it is deleted meanwhile.
func (s *Store) rewrite(ctx context.Context, path string) error {
	if filepath.Dir(path) == s.tmp() {
		return nil // about to move on or to go away
	}
	if err := s.writable(); err != nil {
		return err
	}
	old, err := s.openFile(path)
	if gone(err) {
		return nil
	}
	if err != nil {
		return s.damage(err)
	}
	defer old.Close()
	f, err := s.createFile(s.tmp(), "rekey-")
	if err != nil {
		return fmt.Errorf("seal a blob anew: %w", err)
	}
	if _, err := io.Copy(f, readerUntil{ctx, s.writable, old}); err != nil {
		return errors.Join(s.damage(err), f.abort())
	}
	if err := f.commit(true); err != nil {
		return fmt.Errorf("seal a blob anew: %w", err)
	}
	return s.takePlace(f.name(), path)
}

func (s *Store) takePlace(fresh, path string) error {
	s.life.Lock()
	defer s.life.Unlock()
	info, err := os.Stat(path)
	if err != nil {
		err = errors.Join(err, os.Remove(fresh))
		if gone(err) {
			return nil
		}
		return err
	}
	if err := errors.Join(os.Chtimes(fresh, info.ModTime(), info.ModTime()), os.Rename(fresh, path)); err != nil {
		return errors.Join(fmt.Errorf("seal a blob anew: %w", err), os.Remove(fresh))
	}
	return syncFolder(filepath.Dir(path))
}
