// Package modelstest gives tests of other rooms a model engine in memory, which
// checks permits and content as the real one does. Only tests may import it. It
// may import models and auth.
package modelstest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/store/blob"
)

// Width is the length of the vectors that Engine makes.
const Width = 16

// Engine is a models.Engine in memory. Its completions say Words, one a chunk;
// its vectors count the letters of the text, so that texts alike have vectors
// alike.
type Engine struct {
	Words     []string                  // what a completion says
	Free      int64                     // bytes of free disk; 0 = no end
	Fail      error                     // ends a completion after its words, or an embedding
	Gate      chan struct{}             // when set, each word waits for one value
	CreateErr func(s models.Spec) error // when set, asked before a model is made
	Begun     func(ctx context.Context) // when set, called when a completion begins
	mu        sync.Mutex                // guards all below
	blobs     map[models.Digest][]byte  // whole
	partial   map[models.Digest][]byte  // what interrupted Puts left
	specs     map[string]models.Spec    // the models
	prompts   []models.Prompt           // in order
}

var _ models.Engine = (*Engine)(nil)

// Complete implements models.Engine.
func (e *Engine) Complete(ctx context.Context, permit *guard.Permit, p models.Prompt) iter.Seq2[models.Chunk, error] {
	return func(yield func(models.Chunk, error) bool) {
		if err := permit.Covers(auth.ModelInfer, auth.Model(p.Model)); err != nil {
			yield(models.Chunk{}, err)
			return
		}
		e.mu.Lock()
		e.prompts = append(e.prompts, p)
		e.mu.Unlock()
		if e.Begun != nil {
			e.Begun(ctx)
		}
		usage := models.Usage{TokensIn: 7}
		for _, word := range e.Words {
			if e.Gate != nil {
				select {
				case <-e.Gate:
				case <-ctx.Done():
					yield(models.Chunk{Usage: usage}, ctx.Err())
					return
				}
			}
			usage.TokensOut++
			usage.CPU += time.Millisecond
			if !yield(models.Chunk{Text: word}, nil) {
				return
			}
		}
		if e.Fail != nil {
			yield(models.Chunk{Usage: usage}, e.Fail)
			return
		}
		yield(models.Chunk{Done: true, Reason: "stop", Usage: usage}, nil)
	}
}

// Embed implements models.Engine.
func (e *Engine) Embed(_ context.Context, permit *guard.Permit, model string, texts []string) ([][]float32, models.Usage, error) {
	if err := permit.Covers(auth.ModelEmbed, auth.Model(model)); err != nil {
		return nil, models.Usage{}, err
	}
	if e.Fail != nil {
		return nil, models.Usage{}, e.Fail
	}
	var usage models.Usage
	vectors := make([][]float32, len(texts))
	for i, text := range texts {
		vectors[i] = letters(text)
		usage.TokensIn += int64(len(strings.Fields(text)))
		usage.CPU += time.Millisecond
	}
	return vectors, usage, nil
}

func letters(text string) []float32 {
	v := make([]float32, Width)
	v[0] = 1
	for _, r := range strings.ToLower(text) {
		v[int(r)%Width]++
	}
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	for i := range v {
		v[i] /= float32(math.Sqrt(sum))
	}
	return v
}

// Room implements models.Engine.
func (e *Engine) Room(bytes int64) error {
	if e.Free > 0 && bytes > e.Free {
		return models.Fail(models.ErrNoSpace, "not enough free disk space")
	}
	return nil
}

// Put implements models.Engine.
func (e *Engine) Put(_ context.Context, permit *guard.Permit, model string, want models.Digest, size int64, r io.Reader) error {
	if err := permit.Covers(auth.ModelManage, auth.Model(model)); err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(r, size))
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil || int64(len(data)) < size {
		if e.partial == nil {
			e.partial = map[models.Digest][]byte{}
		}
		e.partial[want] = data
		if err == nil {
			err = models.Fail(models.ErrInvalid, "the file ends before its end")
		}
		return err
	}
	delete(e.partial, want)
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != string(want) {
		return models.Fail(models.ErrInvalid, "its content has another SHA-256")
	}
	if e.blobs == nil {
		e.blobs = map[models.Digest][]byte{}
	}
	e.blobs[want] = data
	return nil
}

// Create implements models.Engine.
func (e *Engine) Create(_ context.Context, permit *guard.Permit, s models.Spec) error {
	if err := permit.Covers(auth.ModelManage, auth.Model(s.Name)); err != nil {
		return err
	}
	if e.CreateErr != nil {
		if err := e.CreateErr(s); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, d := range s.Files {
		if _, ok := e.blobs[d]; !ok {
			return models.Fail(models.ErrInvalid, "a file of the model has not been put yet")
		}
	}
	if e.specs == nil {
		e.specs = map[string]models.Spec{}
	}
	e.specs[s.Name] = s
	return nil
}

// Image implements models.Engine.
func (e *Engine) Image(_ context.Context, name string) (models.Image, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, ok := e.specs[name]
	if !ok {
		return models.Image{}, models.Fail(models.ErrNoModel, "this node does not hold the model")
	}
	data, err := json.Marshal(s)
	image := models.Image{Manifest: data}
	for _, d := range slices.Sorted(maps.Values(s.Files)) {
		image.Blobs = append(image.Blobs, models.Blob{Digest: d, Bytes: int64(len(e.blobs[d]))})
	}
	return image, err
}

// Install implements models.Engine.
func (e *Engine) Install(ctx context.Context, permit *guard.Permit, name string, image models.Image) error {
	var s models.Spec
	if err := json.Unmarshal(image.Manifest, &s); err != nil || s.Name != name {
		return models.Fail(models.ErrInvalid, "the description of the model cannot be read")
	}
	return e.Create(ctx, permit, s)
}

// Verify implements models.Engine.
func (e *Engine) Verify(_ context.Context, permit *guard.Permit, model string) (damaged []models.Digest, err error) {
	if err := permit.Covers(auth.ModelManage, auth.Model(model)); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, d := range slices.Sorted(maps.Values(e.specs[model].Files)) {
		if sum := sha256.Sum256(e.blobs[d]); hex.EncodeToString(sum[:]) != string(d) {
			delete(e.blobs, d)
			damaged = append(damaged, d)
		}
	}
	return damaged, nil
}

// Rot changes a bit of every blob.
func (e *Engine) Rot() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for d, b := range e.blobs {
		b = bytes.Clone(b)
		b[len(b)/2] ^= 1
		e.blobs[d] = b
	}
}

// Open implements models.Engine.
func (e *Engine) Open(d models.Digest) (blob.File, int64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	data, ok := e.blobs[d]
	if !ok {
		return nil, 0, blob.ErrNotFound
	}
	return memory{bytes.NewReader(data)}, int64(len(data)), nil
}

type memory struct{ *bytes.Reader }

// Close implements io.Closer.
func (memory) Close() error { return nil }

// Discard implements models.Engine.
func (e *Engine) Discard(_ context.Context, permit *guard.Permit, model string, blobs []models.Digest) error {
	if err := permit.Covers(auth.ModelManage, auth.Model(model)); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drop(blobs)
	return nil
}

// drop needs the lock.
func (e *Engine) drop(blobs []models.Digest) {
	for _, d := range blobs {
		delete(e.partial, d)
		used := false
		for _, s := range e.specs {
			used = used || slices.Contains(slices.Collect(maps.Values(s.Files)), d)
		}
		if !used {
			delete(e.blobs, d)
		}
	}
}

// Delete implements models.Engine.
func (e *Engine) Delete(_ context.Context, permit *guard.Permit, name string) error {
	if err := permit.Covers(auth.ModelManage, auth.Model(name)); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s, ok := e.specs[name]
	if !ok {
		return models.Fail(models.ErrNoModel, "this node does not hold the model")
	}
	delete(e.specs, name)
	e.drop(slices.Collect(maps.Values(s.Files)))
	return nil
}

// List implements models.Engine.
func (e *Engine) List(context.Context) ([]models.Installed, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []models.Installed
	for _, name := range slices.Sorted(maps.Keys(e.specs)) {
		list = append(list, models.Installed{Name: name})
	}
	return list, nil
}

// Spec returns what a model was made of.
func (e *Engine) Spec(name string) (models.Spec, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, ok := e.specs[name]
	return s, ok
}

// Left counts the blobs and partial blobs that the engine holds.
func (e *Engine) Left() (blobs, partial int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.blobs), len(e.partial)
}

// Prompts returns the prompts so far.
func (e *Engine) Prompts() []models.Prompt {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.prompts)
}
