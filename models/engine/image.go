package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/store/blob"
)

// maxManifest bounds a manifest: a list of some files.
const maxManifest = 1 << 20

// manifest is what the engine keeps of a model beside its blobs.
type manifest struct {
	Config layer
	Layers []layer
}

type layer struct {
	Digest string
	Size   int64
}

func decodeManifest(data []byte) (m manifest, err error) {
	if err := json.Unmarshal(data, &m); err != nil {
		return m, err
	}
	return m, nil
}

// blobs are the blobs that a manifest names, each once.
func (m manifest) blobs() (out []models.Blob) {
	for _, l := range append(slices.Clone(m.Layers), m.Config) {
		b := models.Blob{Digest: models.Digest(strings.TrimPrefix(l.Digest, "sha256:")), Bytes: l.Size}
		if !slices.Contains(out, b) {
			out = append(out, b)
		}
	}
	return out
}

func (c Config) manifests() string { return filepath.Join(c.models(), "manifests") }

// manifest is where the engine keeps a model of a plain name.
func (c Config) manifest(name string) string {
	return filepath.Join(c.manifests(), "registry.ollama.ai", "library", name, "latest")
}

// Image implements models.Engine.
func (e *Engine) Image(_ context.Context, name string) (models.Image, error) {
	if err := checkName(name); err != nil {
		return models.Image{}, err
	}
	data, err := os.ReadFile(e.config.manifest(name))
	if errors.Is(err, fs.ErrNotExist) {
		return models.Image{}, models.Fail(models.ErrNoModel, "this node does not hold the model %s", name)
	}
	if err != nil {
		return models.Image{}, err
	}
	m, err := decodeManifest(data)
	if err != nil {
		return models.Image{}, fmt.Errorf("read the manifest of model %s: %w", name, err)
	}
	return models.Image{Manifest: data, Blobs: m.blobs()}, nil
}

// Install implements models.Engine. The manifest is written last and whole, so a
// model is there with all its blobs or not at all.
func (e *Engine) Install(_ context.Context, permit *guard.Permit, name string, image models.Image) error {
	if err := permit.Covers(auth.ModelManage, auth.Model(name)); err != nil {
		return err
	}
	if err := checkName(name); err != nil {
		return err
	}
	m, err := decodeManifest(image.Manifest)
	if err != nil || len(image.Manifest) > maxManifest || len(m.Layers) == 0 {
		return models.Fail(models.ErrInvalid, "the description of model %s cannot be read: import it again", name)
	}
	for _, b := range m.blobs() {
		if !digestForm.MatchString(string(b.Digest)) {
			return models.Fail(models.ErrInvalid, "the description of model %s names a file wrongly: import it again", name)
		}
		info, err := os.Stat(e.config.blob(b.Digest))
		if err != nil || info.Size() != b.Bytes {
			return models.Fail(models.ErrInvalid, "a file of model %s is not here yet: %s", name, b.Digest)
		}
	}
	before, err := e.used()
	if err != nil {
		return err
	}
	if err := writeWhole(e.config.partials(), e.config.manifest(name), image.Manifest); err != nil {
		return fmt.Errorf("install model %s: %w", name, err)
	}
	var old []models.Digest
	for d := range before {
		old = append(old, d)
	}
	return e.discard(old)
}

// writeWhole writes a small file durably, whole or not at all, by way of a folder
// for what is not whole yet.
func writeWhole(temp, path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(temp, "manifest-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone after the rename
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// Open implements models.Engine.
func (e *Engine) Open(d models.Digest) (blob.File, int64, error) {
	if !digestForm.MatchString(string(d)) {
		return nil, 0, fmt.Errorf("%w: %q", blob.ErrNotFound, d)
	}
	f, err := os.Open(e.config.blob(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("%w: %s", blob.ErrNotFound, d)
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// used reads the digests that the models' manifests name.
func (e *Engine) used() (map[models.Digest]bool, error) {
	used := map[models.Digest]bool{}
	err := filepath.WalkDir(e.config.manifests(), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		m, err := decodeManifest(data)
		if err != nil {
			return fmt.Errorf("read manifest %s: %w", filepath.Base(path), err)
		}
		for _, b := range m.blobs() {
			used[b.Digest] = true
		}
		return nil
	})
	return used, err
}
