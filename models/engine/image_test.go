package engine_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/models/engine/enginetest"
	"github.com/cloister-os/cloister/store/blob"
)

// take brings a model from one engine into another, as the nodes of a cluster do.
func (b *bench) take(from *bench, name string) error {
	image, err := from.Image(b.t.Context(), name)
	if err != nil {
		return err
	}
	return b.with(auth.ModelManage, name, func(ctx context.Context, p *guard.Permit) error {
		for _, part := range image.Blobs {
			f, size, err := from.Open(part.Digest)
			if err != nil {
				return err
			}
			err = b.Put(ctx, p, name, part.Digest, size, f)
			if err = errors.Join(err, f.Close()); err != nil {
				return err
			}
		}
		return b.Install(ctx, p, name, image)
	})
}

func TestAModelWorksInAnotherEngine(t *testing.T) {
	a, b := start(t), start(t)
	a.install("m", enginetest.Tiny())
	if err := b.take(a, "m"); err != nil {
		t.Fatal(err)
	}
	seed := 3
	p := models.Prompt{Model: "m", Messages: []models.Message{{Role: "user", Content: "hello"}}, MaxTokens: 20, Seed: &seed, Temperature: &zero}
	var said [2]string
	for i, e := range []*bench{a, b} {
		if _, err := e.complete(p, func(c models.Chunk) { said[i] += c.Text }); err != nil {
			t.Fatal(err)
		}
	}
	if said[0] != said[1] {
		t.Errorf("one says %q, the other %q", said[0], said[1])
	}
	// Another model of the name takes its place, with its files.
	other := enginetest.Tiny()
	other.Seed = 9
	a.install("m", other)
	if err := b.take(a, "m"); err != nil {
		t.Fatal(err)
	}
	image, err := b.Image(t.Context(), "m")
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(filepath.Join(b.dir, "models", "blobs"))
	if err != nil || len(files) != len(image.Blobs) {
		t.Errorf("%d files for %d blobs, %v", len(files), len(image.Blobs), err)
	}
}

func TestAnImageIsNotInstalledWithoutItsBlobs(t *testing.T) {
	a, b := start(t), start(t)
	a.install("m", enginetest.Tiny())
	image, err := a.Image(t.Context(), "m")
	if err != nil {
		t.Fatal(err)
	}
	for name, wrong := range map[string]models.Image{
		"no blobs":    image,
		"not JSON":    {Manifest: []byte("{")},
		"no layers":   {Manifest: []byte("{}")},
		"a path":      {Manifest: []byte(`{"config":{"digest":"sha256:../../x"},"layers":[{"digest":"sha256:../../x","size":1}]}`)},
		"a long file": {Manifest: bytes.Repeat([]byte(" "), 2<<20)},
	} {
		err := b.with(auth.ModelManage, "m", func(ctx context.Context, p *guard.Permit) error { return b.Install(ctx, p, "m", wrong) })
		if !errors.Is(err, models.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.Image(t.Context(), "m"); !errors.Is(err, models.ErrNoModel) {
		t.Errorf("there is an image: %v", err)
	}
	if _, err := b.Image(t.Context(), "../m"); err == nil {
		t.Error("a path was taken for a name")
	}
	if _, _, err := b.Open("../../../etc/passwd"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a path was taken for a digest: %v", err)
	}
}

// seeker counts what is read of it.
type seeker struct {
	*bytes.Reader
	read int
}

func (s *seeker) Read(b []byte) (int, error) {
	n, err := s.Reader.Read(b)
	s.read += n
	return n, err
}

func TestWhatIsHereIsNotReadAgain(t *testing.T) {
	b := start(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	want := hexDigest(data)
	put := func(r io.Reader) error {
		return b.with(auth.ModelManage, "m", func(ctx context.Context, p *guard.Permit) error {
			return b.Put(ctx, p, "m", want, int64(len(data)), r)
		})
	}
	if err := put(bytes.NewBuffer(data[:300_000])); err == nil {
		t.Fatal("half a blob was taken")
	}
	rest := &seeker{Reader: bytes.NewReader(data)}
	if err := put(rest); err != nil || rest.read != len(data)-300_000 {
		t.Errorf("%d bytes were read, %v", rest.read, err)
	}
	again := &seeker{Reader: bytes.NewReader(data)}
	if err := put(again); err != nil || again.read != 0 {
		t.Errorf("%d bytes were read of a blob that is here, %v", again.read, err)
	}
	f, size, err := b.Open(want)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, data) || size != int64(len(data)) {
		t.Errorf("%d bytes of %d, %v", len(got), size, err)
	}
}

func TestADamagedFileIsFoundAndTakenOut(t *testing.T) {
	b := start(t)
	digest := b.install("m", enginetest.Tiny())
	verify := func() (damaged []models.Digest) {
		t.Helper()
		err := b.with(auth.ModelManage, "m", func(ctx context.Context, p *guard.Permit) (err error) {
			damaged, err = b.Verify(ctx, p, "m")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return damaged
	}
	if damaged := verify(); len(damaged) > 0 {
		t.Errorf("damaged at once: %v", damaged)
	}
	path := filepath.Join(b.dir, "models", "blobs", "sha256-"+string(digest))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if damaged := verify(); len(damaged) != 1 || damaged[0] != digest {
		t.Errorf("damaged: %v", damaged)
	}
	if _, _, err := b.Open(digest); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("it is still there: %v", err)
	}
}
