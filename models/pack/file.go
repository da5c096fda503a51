package pack

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/models/registry"
)

// Transcript is the template for models that come without one: the messages as
// a transcript that the model continues. TranscriptStop ends the answer where
// the model would go on to speak for the user.
const Transcript = `{{- range .Messages }}{{ if eq .Role "system" }}{{ .Content }}

{{ else if eq .Role "user" }}User: {{ .Content }}
{{ else }}Assistant: {{ .Content }}
{{ end }}{{ end }}Assistant:`

// TranscriptStop is where an answer to Transcript ends.
func TranscriptStop() []string { return []string{"\nUser:", "\nAssistant:"} }

// file imports a single GGUF file, which must be known whole before anything is
// done with it: an upload is first written to a file.
func (i *importing) file(ctx context.Context, r *bufio.Reader, src Source) (Result, error) {
	var f *os.File
	var size int64
	var err error
	if i.streamed {
		i.total = 2 * src.Bytes
		f, err = spool(ctx, i.service.config.Temp, r, i.advance)
		if err != nil {
			return Result{}, err
		}
		defer os.Remove(f.Name())
		defer f.Close()
		if err := i.checkWhole(r, src); err != nil {
			return Result{}, err
		}
		size, err = f.Seek(0, io.SeekEnd)
	} else {
		i.total = 2 * src.Bytes
		f, size, err = openModelFile(src.Path)
		if err == nil {
			defer f.Close()
			i.total = 2 * size
		}
	}
	if err != nil {
		return Result{}, err
	}
	return i.single(ctx, f, size, src)
}

// single imports a GGUF file that is whole on disk.
func (i *importing) single(ctx context.Context, f *os.File, size int64, src Source) (Result, error) {
	name := i.options.Name
	if name == "" {
		name = nameOf(src.Path)
	}
	if !nameForm.MatchString(name) {
		return Result{}, invalid("give it a name of 1 to 64 of a–z, 0–9, '.', '_' and '-', with --name")
	}
	g, err := readGGUF(io.NewSectionReader(f, 0, size), size)
	if err != nil {
		return Result{}, err
	}
	digest, err := i.hash(ctx, io.NewSectionReader(f, 0, size))
	if err != nil {
		return Result{}, err
	}
	if !i.streamed && src.SHA256 != "" && !strings.EqualFold(src.SHA256, string(digest)) {
		return Result{}, invalid("it has SHA-256 %s instead of %s: get it again", digest, printable(src.SHA256))
	}
	m := modelOf(name, g, File{Path: "model.gguf", SHA256: digest, Bytes: size})
	err = i.service.manage(ctx, i.principal, name, "import", func(ctx context.Context, permit *guard.Permit) (map[string]int64, error) {
		counted := &countingReader{r: io.NewSectionReader(f, 0, size), ctx: ctx, count: i.advance}
		err := i.service.config.Engine.Put(ctx, permit, name, digest, size, counted)
		if err == nil {
			err = i.install(ctx, permit, m.spec(""), m.bare(digest), "")
		}
		if err != nil {
			i.dropBlobs(ctx, permit, m, err)
		}
		return map[string]int64{"bytes": size}, err
	})
	if err != nil {
		return Result{}, err
	}
	entry, err := i.service.registry.Get(ctx, name)
	return Result{Models: []registry.Model{entry}, Trust: bareFile}, err
}

func (i *importing) hash(ctx context.Context, r io.Reader) (models.Digest, error) {
	h := sha256.New()
	count := i.advance
	if i.streamed {
		count = func(int64) {} // its bytes were counted when they arrived
	}
	if _, err := io.Copy(h, &countingReader{r: r, ctx: ctx, count: count}); err != nil {
		return "", err
	}
	return models.Digest(hex.EncodeToString(h.Sum(nil))), nil
}

// modelOf describes a model by what its GGUF header says.
func modelOf(name string, g gguf, f File) Model {
	m := Model{Name: name, Kind: models.Completion, About: g.Name, Licence: Licence{Name: g.Licence}, Files: []File{f}}
	if !line(m.About) {
		m.About = ""
	}
	if m.Licence.Name == "" || !line(m.Licence.Name) {
		m.Licence.Name = "not stated in the file"
	}
	if g.Pooled || strings.HasSuffix(g.Architecture, "bert") {
		m.Kind, m.Width = models.Embedding, g.Width
		return m
	}
	if !g.Template {
		m.Base, m.Template, m.Stop = true, Transcript, TranscriptStop()
	}
	return m
}

// bare is the registry's entry for a model that came as a single file.
func (m Model) bare(digest models.Digest) registry.Model {
	return registry.Model{
		Name: m.Name, Kind: m.Kind, About: m.About, Base: m.Base, Dimensions: m.Width, Trust: bareFile,
		Licence: m.Licence.Name, Bytes: m.Files[0].Bytes, Digest: string(digest),
	}
}

var notInNames = regexp.MustCompile(`[^a-z0-9._-]+`)

// nameOf makes a model's name of a file's.
func nameOf(path string) string {
	base := strings.ToLower(filepath.Base(path))
	base = strings.TrimSuffix(base, ".gguf")
	base = strings.Trim(notInNames.ReplaceAllString(base, "-"), "-._")
	if len(base) > 64 {
		base = base[:64]
	}
	return base
}
