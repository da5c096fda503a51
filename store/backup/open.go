package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/machine"
)

// Opened is a chain with the keys to read it.
type Opened struct {
	*Chain
	keys []*keyRing
}

// Open unwraps the keys of a chain with the root key.
func (c *Chain) Open(s Sealer) (*Opened, error) {
	o := &Opened{Chain: c}
	for _, l := range c.links {
		key, err := unwrap(s, l.ID, l.Key)
		if err != nil {
			return nil, err
		}
		o.keys = append(o.keys, key)
	}
	return o, nil
}

// parts lists what of each link makes up the whole of both databases.
func (o *Opened) parts() (out []partOf) {
	for db := range partNames {
		first := 0
		for i, l := range o.links {
			if l.Parts[db].Whole {
				first = i
			}
		}
		for i := first; i < len(o.links); i++ {
			out = append(out, partOf{i, db})
		}
	}
	return out
}

type partOf struct{ link, db int }

// StageBytes is the size of what Stage writes.
func (o *Opened) StageBytes(extra []machine.Extra) int64 {
	var parts []machine.Part
	for _, p := range o.parts() {
		parts = append(parts, o.links[p.link].Parts[p.db])
	}
	return machine.ComposedSize(o.Last().Head, parts, extra)
}

// Stage writes both databases as machine.Restore takes them, with extra keys.
func (o *Opened) Stage(ctx context.Context, w io.Writer, extra []machine.Extra, progress func(Progress)) error {
	p := Progress{Step: "databases", Total: o.StageBytes(extra)}
	var parts []machine.PartReader
	for _, at := range o.parts() {
		l := o.links[at.link]
		f, r, err := openFile(l.dir, partNames[at.db], l.ID, o.keys[at.link])
		if err != nil {
			return err
		}
		defer f.Close()
		read := func(n int64) { p.Done += n; progress(p) }
		parts = append(parts, machine.PartReader{Part: l.Parts[at.db], Reader: &watched{ctx, r, read}})
	}
	return machine.Compose(w, o.Last().Head, parts, extra)
}

// BlobBytes is the size of all blobs of the chain.
func (o *Opened) BlobBytes() int64 {
	n := int64(0)
	for _, l := range o.links {
		n += l.Blobs.Bytes
	}
	return n
}

// EachBlob calls f for each blob of the chain. A blob that does not match its
// name ends it.
func (o *Opened) EachBlob(ctx context.Context, progress func(Progress), f func(blob.Info, io.Reader) error) error {
	p := Progress{Step: "blobs", Total: o.BlobBytes()}
	for i, l := range o.links {
		for _, file := range l.Files {
			if !strings.HasPrefix(file.Name, packPrefix) {
				continue
			}
			err := eachInPack(l.dir, file.Name, l.ID, o.keys[i], func(info blob.Info, r io.Reader) error {
				return f(info, &watched{ctx, r, func(n int64) { p.Done += n; progress(p) }})
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// CheckInside reads everything with the keys: that each record belongs where it
// stands and each blob to its name. Chain.Check comes first.
func (o *Opened) CheckInside(ctx context.Context, progress func(Progress)) error {
	for i, l := range o.links {
		for db, name := range partNames {
			f, r, err := openFile(l.dir, name, l.ID, o.keys[i])
			if err != nil {
				return err
			}
			err = machine.CheckPart(machine.Databases()[db], machine.PartReader{Part: l.Parts[db], Reader: &watched{ctx, r, func(int64) {}}})
			if err = errors.Join(err, f.Close()); err != nil {
				return refuse(ErrDamaged, "the file %s of the backup %s does not hold what it should: %v", name, l.Name, err)
			}
		}
	}
	return o.EachBlob(ctx, progress, func(_ blob.Info, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	})
}

// Room refuses to restore into a folder whose disk could not hold it all.
func (o *Opened) Room(dir string, free func(string) (int64, error), reserve int64) error {
	have, err := free(dir)
	if err != nil {
		return err
	}
	// The databases stand twice for a moment: as a snapshot and restored.
	need := 2*o.StageBytes(nil) + o.BlobBytes() + reserve
	if have < need {
		return refuse(ErrNoSpace, "the disk of %s has %d MiB free and the restore needs %d MiB: free some space, or choose another folder", dir, have>>20, need>>20)
	}
	return nil
}

// Reader gives what Stage writes as a reader, which must be closed.
func (o *Opened) Reader(ctx context.Context, extra []machine.Extra, progress func(Progress)) io.ReadCloser {
	r, w := io.Pipe()
	go func() { w.CloseWithError(o.Stage(ctx, w, extra, progress)) }()
	return r
}

// Remove deletes a chain's backups, the newest first, so that what a crash leaves
// is a chain still.
func (c *Chain) Remove() error {
	for i := len(c.links) - 1; i >= 0; i-- {
		l := c.links[i]
		gone := filepath.Join(filepath.Dir(l.dir), gonePrefix+l.Name)
		if err := errors.Join(os.RemoveAll(gone), os.Rename(l.dir, gone), os.RemoveAll(gone)); err != nil {
			return fmt.Errorf("remove the backup %s: %w", l.Name, err)
		}
	}
	return nil
}

// gonePrefix names backups that are being removed.
const gonePrefix = ".removing-"

// Keep removes the oldest chains of a cluster beyond n. Backups that cannot be
// read, and those of other clusters, stay.
func (f Folder) Keep(cluster string, n int) (removed []string, err error) {
	all, err := f.List()
	if err != nil {
		return nil, err
	}
	builtOn := map[string]bool{}
	var ours []*Manifest
	for _, e := range all {
		if e.Err != nil || e.Manifest.Cluster != cluster {
			continue
		}
		ours = append(ours, e.Manifest)
		if e.Manifest.Parent != nil {
			builtOn[e.Manifest.Parent.Name] = true
		}
	}
	var heads []string // the newest backup of each chain, oldest first
	for _, m := range ours {
		if !builtOn[m.Name] {
			heads = append(heads, m.Name)
		}
	}
	for len(heads) > n {
		c, err := f.Chain(heads[0])
		if err != nil {
			return removed, err
		}
		for _, l := range c.links {
			removed = append(removed, l.Name)
		}
		if err := c.Remove(); err != nil {
			return removed, err
		}
		heads = heads[1:]
	}
	return removed, nil
}

// Version is where the databases of the chain stand.
func (c *Chain) Version() store.Version { return c.Last().Head.Version }

// Counts are the blobs of each link.
func (c *Chain) Counts() []Blobset {
	var out []Blobset
	for _, l := range c.links {
		out = append(out, l.Blobs)
	}
	return out
}

// Claims reads what a backup says of itself, verifying nothing: for whoever has
// yet to find the key to verify it by among its sealed files.
func Claims(dir string) (*Manifest, error) {
	m, _, err := readManifest(filepath.Clean(dir), func(note []byte, _ json.RawMessage) (string, error) {
		return string(note[:bytes.LastIndex(note, []byte("\n\n"))+1]), nil
	})
	return m, err
}
