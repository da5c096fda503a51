package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// maxChain bounds how many backups can build on one another.
const maxChain = 1000

// Folder is a folder of backups.
type Folder struct {
	Dir    string
	Verify VerifyFunc
}

// Entry is a backup of a folder, or why it cannot be used.
type Entry struct {
	Name     string
	Manifest *Manifest
	Err      error
}

// List names the backups of the folder, oldest first. Only manifests are read.
func (f Folder) List() ([]Entry, error) {
	list, err := os.ReadDir(f.Dir)
	if err != nil {
		return nil, fmt.Errorf("list the backups: %w", err)
	}
	var out []Entry
	for _, e := range list {
		if !e.IsDir() || !ValidName(e.Name()) {
			continue
		}
		m, _, err := readManifest(filepath.Join(f.Dir, e.Name()), f.Verify)
		out = append(out, Entry{Name: e.Name(), Manifest: m, Err: err})
	}
	return out, nil
}

// link is one backup of a chain.
type link struct {
	dir string
	sum string // of the manifest
	*Manifest
}

// Chain is a backup with those that it builds on, oldest first.
type Chain struct{ links []link }

// Last is the backup that the chain leads to.
func (c *Chain) Last() *Manifest { return c.links[len(c.links)-1].Manifest }

// Len is the number of backups.
func (c *Chain) Len() int { return len(c.links) }

// Bytes is what the chain's files take.
func (c *Chain) Bytes() int64 {
	n := int64(0)
	for _, l := range c.links {
		n += l.Manifest.Bytes()
	}
	return n
}

// Chain reads the manifests of a backup and of those that it builds on, and
// checks that each is the one that the next was made on.
func (f Folder) Chain(name string) (*Chain, error) {
	var links []link
	want := ""
	for next := name; ; {
		dir := filepath.Join(f.Dir, next)
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			if len(links) == 0 {
				return nil, refuse(ErrMissing, "there is no backup %s in %s", next, f.Dir)
			}
			return nil, refuse(ErrMissing, "the backup %s is missing from %s: %s builds on it, so bring it back, or use a backup made without it", next, f.Dir, links[len(links)-1].Name)
		}
		m, sum, err := readManifest(dir, f.Verify)
		if err != nil {
			return nil, err
		}
		if want != "" && sum != want {
			return nil, refuse(ErrDamaged, "the backup %s is not the one that %s was made on: bring that one back", next, links[len(links)-1].Name)
		}
		if len(links) > 0 {
			if after := links[len(links)-1]; m.Cluster != after.Cluster || m.Lineage != after.Lineage || m.Head.Version != after.Parent.At {
				return nil, refuse(ErrDamaged, "the backup %s does not lead to %s: its manifest says otherwise", next, after.Name)
			}
		}
		links = append(links, link{dir, sum, m})
		if m.Parent == nil {
			slices.Reverse(links)
			return &Chain{links}, nil
		}
		if len(links) == maxChain {
			return nil, refuse(ErrDamaged, "the backup %s builds on more than %d others", name, maxChain)
		}
		next, want = m.Parent.Name, m.Parent.SHA256
	}
}

// Check reads every byte of the chain and compares it with what was signed.
func (c *Chain) Check(ctx context.Context, progress func(Progress)) error {
	p := Progress{Step: "checking", Total: c.Bytes()}
	for _, l := range c.links {
		if err := l.unknown(); err != nil {
			return err
		}
		for _, f := range l.Files {
			if err := l.check(ctx, f, func(n int64) { p.Done += n; progress(p) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// unknown refuses a file that the manifest does not know.
func (l link) unknown() error {
	list, err := os.ReadDir(l.dir)
	if err != nil {
		return fmt.Errorf("read the backup %s: %w", l.Name, err)
	}
	for _, e := range list {
		if _, ok := l.file(e.Name()); !ok && e.Name() != manifestName {
			return refuse(ErrDamaged, "the backup %s is damaged: the file %s does not belong to it, so move it away", l.Name, e.Name())
		}
	}
	return nil
}

func (l link) check(ctx context.Context, want File, read func(int64)) error {
	f, err := os.Open(filepath.Join(l.dir, want.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(ErrMissing, "the backup %s is damaged: its file %s is missing", l.Name, want.Name)
	}
	if err != nil {
		return fmt.Errorf("read the backup %s: %w", l.Name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read the backup %s: %w", l.Name, err)
	}
	switch {
	case info.Size() < want.Bytes:
		return refuse(ErrDamaged, "the backup %s was cut: its file %s ends at byte %d of %d", l.Name, want.Name, info.Size(), want.Bytes)
	case info.Size() > want.Bytes:
		return refuse(ErrDamaged, "the backup %s is damaged: its file %s has %d bytes instead of %d", l.Name, want.Name, info.Size(), want.Bytes)
	}
	h := sha256.New()
	if _, err := io.Copy(h, &watched{ctx, f, read}); err != nil {
		return fmt.Errorf("read the file %s of the backup %s: %w", want.Name, l.Name, err)
	}
	if hex.EncodeToString(h.Sum(nil)) != want.SHA256 {
		return refuse(ErrDamaged, "the backup %s is damaged: its file %s was changed", l.Name, want.Name)
	}
	return nil
}

// watched tells how much was read, and ends with its context.
type watched struct {
	ctx  context.Context
	r    io.Reader
	read func(int64)
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.r.Read(p)
	w.read(int64(n))
	return n, err
}
