package pack

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/models/registry"
)

// importWithin bounds an import: a large pack from a slow stick takes hours.
const importWithin = 24 * time.Hour

// Source is what to import: a path on this node, or else a reader.
type Source struct {
	Path   string
	Reader io.Reader
	SHA256 string // of all bytes, if the sender knows it: checked
	Bytes  int64  // of the reader, for progress; 0 = unknown
}

// Options are an import's choices.
type Options struct {
	Name        string                  // what to call the model of a single file; "" = after the file
	AcceptTerms bool                    // whoever imports has seen the licence's text and accepts it
	Progress    func(done, total int64) // bytes; called often, from one goroutine; may be nil
}

// Result is what an import did.
type Result struct {
	Models []registry.Model
	Pack   string // "name version"; "" for a single file
	Trust  string
}

// Import brings a pack, or a single GGUF file, into the house. A file that is
// wrong in any way is refused with one sentence and leaves nothing behind; an
// import that was interrupted goes on where it stopped when it is called again.
func (s *Service) Import(ctx context.Context, p auth.Principal, src Source, o Options) (Result, error) {
	if err := s.config.Guard.Decide(ctx, guard.Request{Principal: p, Action: auth.ModelManage, Resource: auth.Model(o.Name)}); err != nil {
		// Asked again through Do, so that the refusal is on record.
		return Result{}, s.manage(ctx, p, o.Name, "import", func(context.Context, *guard.Permit) (map[string]int64, error) {
			return nil, auth.ErrDenied
		})
	}
	select {
	case s.one <- struct{}{}:
		defer func() { <-s.one }()
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	i := &importing{service: s, principal: p, options: o, streamed: src.Path == ""}
	res, err := i.run(ctx, src)
	if err != nil {
		return Result{}, err
	}
	return res, nil
}

// importing is one import.
type importing struct {
	service   *Service
	principal auth.Principal
	options   Options
	streamed  bool // from a reader: a source that ends early may be sent again
	total     int64
	done      int64
	whole     hash.Hash // of all bytes of the source
	created   []string  // models that were not there before
}

func (i *importing) run(ctx context.Context, src Source) (Result, error) {
	var r io.Reader = src.Reader
	size := src.Bytes
	if !i.streamed {
		f, n, err := openModelFile(src.Path)
		if err != nil {
			return Result{}, err
		}
		defer f.Close()
		r, size = f, n
	}
	if src.SHA256 != "" {
		i.whole = sha256.New()
		r = io.TeeReader(r, i.whole)
	}
	i.total = size
	buffered := bufio.NewReaderSize(r, 1<<20)
	isPack, err := kindOf(buffered)
	if err != nil {
		return Result{}, err
	}
	if isPack {
		return i.pack(ctx, buffered, src)
	}
	return i.file(ctx, buffered, src)
}

// openModelFile opens what a path names, if it is a regular file.
func openModelFile(path string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		var pathErr *os.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		return nil, 0, models.Fail(models.ErrInvalid, "%s cannot be opened (%w): give the path of a .pack or .gguf file on the node's disk", printable(path), err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = models.Fail(models.ErrInvalid, "%s is not a file: give the path of a .pack or .gguf file", printable(path))
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// pack imports all models of a pack, or none.
func (i *importing) pack(ctx context.Context, r io.Reader, src Source) (Result, error) {
	p, err := openPack(r, i.service.config.Trusted)
	if err != nil {
		return Result{}, err
	}
	if p.trust == byHash && i.service.config.RequireSigned {
		return Result{}, invalid("nobody whom this installation trusts vouches for it: add the signer's key to the configuration, or get a signed pack")
	}
	i.total = p.manifest.Bytes()
	if err := i.room(ctx, p); err != nil {
		return Result{}, err
	}
	res := Result{Pack: p.manifest.Name + " " + p.manifest.Version, Trust: p.trust}
	for _, m := range p.manifest.Models {
		entry, err := i.model(ctx, p, m)
		if err != nil {
			i.rollBack(ctx)
			return Result{}, fmt.Errorf("import model %s: %w", m.Name, err)
		}
		res.Models = append(res.Models, entry)
	}
	err = p.end()
	if err == nil {
		err = i.checkWhole(r, src)
	}
	if err != nil {
		i.rollBack(ctx)
		return Result{}, err
	}
	return res, nil
}

// room asks for the disk space of all models that are not here yet.
func (i *importing) room(ctx context.Context, p *reader) error {
	var needs int64
	for _, m := range p.manifest.Models {
		if entry := i.entry(p, m, ""); !i.have(ctx, entry) {
			needs += entry.Bytes
		}
	}
	return i.service.config.Engine.Room(needs)
}

// checkWhole compares the hash of all bytes with the one the sender gave.
func (i *importing) checkWhole(rest io.Reader, src Source) error {
	if i.whole == nil {
		return nil
	}
	if _, err := io.Copy(io.Discard, rest); err != nil {
		return cutShort(err)
	}
	if got := hex.EncodeToString(i.whole.Sum(nil)); !strings.EqualFold(got, src.SHA256) {
		return invalid("it arrived with SHA-256 %s instead of %s: send it again", got, printable(src.SHA256))
	}
	return nil
}

// model imports one model of a pack through the guard.
func (i *importing) model(ctx context.Context, p *reader, m Model) (entry registry.Model, err error) {
	err = i.service.manage(ctx, i.principal, m.Name, "import", func(ctx context.Context, permit *guard.Permit) (map[string]int64, error) {
		text, card, err := i.texts(ctx, p, m)
		if err != nil {
			return nil, err
		}
		entry = i.entry(p, m, card)
		if i.have(ctx, entry) {
			return nil, i.again(ctx, p, m, entry, text)
		}
		for _, f := range m.Files {
			if err := i.blob(ctx, permit, p, m, f); err != nil {
				i.dropBlobs(ctx, permit, m, err)
				return nil, err
			}
		}
		err = i.install(ctx, permit, m.spec(text), entry, text)
		if err != nil {
			i.dropBlobs(ctx, permit, m, err)
		}
		return map[string]int64{"bytes": entry.Bytes}, err
	})
	if err != nil {
		return registry.Model{}, err
	}
	return i.service.registry.Get(ctx, m.Name)
}

// have says whether the very same model is here already.
func (i *importing) have(ctx context.Context, entry registry.Model) bool {
	before, err := i.service.registry.Get(ctx, entry.Name)
	if err != nil || before.Digest != entry.Digest {
		return false
	}
	held, err := i.service.config.Engine.List(ctx)
	return err == nil && slices.ContainsFunc(held, func(m models.Installed) bool { return m.Name == entry.Name })
}

// again passes over the files of a model that is here and renews its entry.
func (i *importing) again(ctx context.Context, p *reader, m Model, entry registry.Model, text string) error {
	for _, f := range m.Files {
		if _, err := p.next(f); err != nil {
			return err
		}
		i.advance(f.Bytes)
	}
	var err error
	if entry.Image, err = i.service.config.Engine.Image(ctx, entry.Name); err != nil {
		return err
	}
	return i.service.registry.Put(ctx, i.stamped(entry), text)
}

// stamped is an entry with what this import adds to it.
func (i *importing) stamped(entry registry.Model) registry.Model {
	entry.Imported = time.Now().Unix()
	if i.options.AcceptTerms {
		entry.Accepted = i.principal.ID
	}
	return entry
}

// texts reads what precedes a model's own files: licence, card and extras.
func (i *importing) texts(ctx context.Context, p *reader, m Model) (licence, card string, err error) {
	for n, f := range m.files()[:len(m.files())-len(m.Files)] {
		if ctx.Err() != nil {
			return "", "", ctx.Err()
		}
		r, err := p.next(f)
		if err != nil {
			return "", "", err
		}
		h := sha256.New()
		kept := &strings.Builder{}
		if f.Bytes <= maxTextBytes {
			r = io.TeeReader(r, kept)
		}
		if _, err := io.Copy(h, r); err != nil {
			return "", "", cutShort(err)
		}
		if got := hex.EncodeToString(h.Sum(nil)); got != string(f.SHA256) {
			return "", "", wrongHash(f, got)
		}
		i.advance(f.Bytes)
		switch {
		case n == 0:
			licence = kept.String()
		case n == 1 && m.Card != nil:
			card = kept.String()
		}
	}
	return licence, card, nil
}

func wrongHash(f File, got string) error {
	return invalid("file %q has SHA-256 %s instead of %s: get the pack again", f.Path, got, f.SHA256)
}

// blob hands one file to the engine.
func (i *importing) blob(ctx context.Context, permit *guard.Permit, p *reader, m Model, f File) error {
	r, err := p.next(f)
	if err != nil {
		return err
	}
	counted := &countingReader{r: r, ctx: ctx, count: i.advance}
	err = i.service.config.Engine.Put(ctx, permit, m.Name, f.SHA256, f.Bytes, counted)
	if counted.err != nil {
		return cutShort(counted.err)
	}
	if err != nil {
		return fmt.Errorf("file %q: %w", f.Path, err)
	}
	return nil
}

func (m Model) spec(licence string) models.Spec {
	spec := models.Spec{Name: m.Name, Files: map[string]models.Digest{}, Template: m.Template, Stop: m.Stop, Licence: licence}
	for _, f := range m.Files {
		spec.Files[f.as()] = f.SHA256
	}
	return spec
}

func (i *importing) entry(p *reader, m Model, card string) registry.Model {
	entry := registry.Model{
		Name: m.Name, Kind: m.Kind, About: m.About, Base: m.Base, Dimensions: m.Width,
		Pack: p.manifest.Name + " " + p.manifest.Version, Trust: p.trust,
		Licence: m.Licence.Name, Terms: m.Licence.Terms, Text: m.Licence.Text.SHA256, Card: card,
	}
	h := sha256.New()
	for _, f := range m.Files {
		entry.Bytes += f.Bytes
		fmt.Fprintf(h, "%s  %s\n", f.SHA256, f.as())
	}
	entry.Digest = hex.EncodeToString(h.Sum(nil))
	return entry
}

// install makes the model in the engine, brings it to a second node, and enters
// it into the registry.
func (i *importing) install(ctx context.Context, permit *guard.Permit, spec models.Spec, entry registry.Model, text string) error {
	_, before := i.service.registry.Get(ctx, entry.Name)
	if before != nil && !errors.Is(before, models.ErrNoModel) {
		return before
	}
	defer i.service.config.Fleet.Importing(entry.Name)()
	if err := i.service.config.Engine.Create(ctx, permit, spec); err != nil {
		return err
	}
	entry, err := i.share(ctx, entry)
	if err == nil {
		err = i.service.registry.Put(ctx, i.stamped(entry), text)
	}
	if unstageErr := i.service.registry.Unstage(context.WithoutCancel(ctx), entry.Name); unstageErr != nil {
		i.service.config.Logger.Warn("An import could not be ended in full; the next one of the model does it.", "model", entry.Name, "error", unstageErr)
	}
	if before != nil && err == nil {
		i.created = append(i.created, entry.Name)
	}
	if before != nil && err != nil {
		err = errors.Join(err, i.service.config.Engine.Delete(context.WithoutCancel(ctx), permit, entry.Name))
	}
	return err
}

// share brings a model that was made to a second node, where there is one.
func (i *importing) share(ctx context.Context, entry registry.Model) (registry.Model, error) {
	var err error
	if entry.Image, err = i.service.config.Engine.Image(ctx, entry.Name); err != nil {
		return entry, err
	}
	base := i.done
	err = i.service.config.Fleet.Share(ctx, entry, func(done int64) {
		i.total = max(i.total, base+entry.Image.Bytes())
		i.done = base + done
		i.advance(0)
	})
	i.done = base
	return entry, err
}

// dropBlobs removes what a failed import has put, unless going on later makes
// sense: after an interruption, not after finding that the file is wrong or that
// the disk is full.
func (i *importing) dropBlobs(ctx context.Context, permit *guard.Permit, m Model, why error) {
	resumable := ctx.Err() != nil || i.streamed && errors.Is(why, errCutShort)
	if resumable && !errors.Is(why, models.ErrNoSpace) && !errors.Is(why, syscall.ENOSPC) {
		return
	}
	var digests []models.Digest
	for _, f := range m.Files {
		digests = append(digests, f.SHA256)
	}
	if err := i.service.config.Engine.Discard(context.WithoutCancel(ctx), permit, m.Name, digests); err != nil {
		i.service.config.Logger.Error("what a failed import left could not be removed", "model", m.Name, "error", err)
	}
}

// rollBack removes the models that this import has made.
func (i *importing) rollBack(ctx context.Context) {
	for _, name := range i.created {
		if err := i.service.Remove(context.WithoutCancel(ctx), i.principal, name); err != nil && !errors.Is(err, models.ErrNoModel) {
			i.service.config.Logger.Error("a model of a failed import could not be removed", "model", name, "error", err)
		}
	}
}

func (i *importing) advance(n int64) {
	i.done += n
	i.options.Progress(i.done, max(i.total, i.done))
}

// countingReader reports what is read and remembers why reading failed, so that
// a broken source can be told from a broken destination.
type countingReader struct {
	r     io.Reader
	ctx   context.Context
	count func(int64)
	err   error
}

func (c *countingReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		c.err = err
		return 0, err
	}
	n, err := c.r.Read(b)
	c.count(int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

// spool writes a stream to a file of its own, which the caller removes.
func spool(ctx context.Context, dir string, r io.Reader, count func(int64)) (*os.File, error) {
	f, err := os.CreateTemp(dir, "upload-*"+filepath.Ext(".gguf"))
	if err != nil {
		return nil, err
	}
	counted := &countingReader{r: r, ctx: ctx, count: count}
	if _, err := io.Copy(f, counted); err != nil {
		f.Close()
		os.Remove(f.Name())
		if counted.err != nil {
			return nil, cutShort(counted.err)
		}
		if errors.Is(err, syscall.ENOSPC) {
			return nil, models.Fail(models.ErrNoSpace, "the disk is full: free some space and import again")
		}
		return nil, err
	}
	return f, nil
}
