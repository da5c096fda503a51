package pack

import (
	"archive/tar"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/cloister-os/cloister/models"
)

// Build writes a pack: the manifest, signed when key is not nil, and each file
// that it names as open gives it. A file that differs from the manifest is an
// error, and what was written must then be thrown away. The same manifest, key
// and files make the same bytes. It returns the SHA-256 of the manifest, which
// is what Known lists.
func Build(w io.Writer, m Manifest, key ed25519.PrivateKey, open func(File) (io.ReadCloser, error)) (models.Digest, error) {
	if err := m.check(); err != nil {
		return "", err
	}
	manifest, err := m.encode()
	if err != nil {
		return "", err
	}
	if len(manifest) > maxManifest {
		return "", invalid("its manifest is longer than %d KiB", maxManifest>>10)
	}
	out := tar.NewWriter(w)
	if err := writeBytes(out, manifestName, manifest); err != nil {
		return "", err
	}
	if key != nil {
		sig, err := sign(manifest, key)
		if err != nil {
			return "", err
		}
		if err := writeBytes(out, signatureName, sig); err != nil {
			return "", err
		}
	}
	for _, model := range m.Models {
		for _, f := range model.files() {
			if err := writeFile(out, f, open); err != nil {
				return "", fmt.Errorf("pack %s: %w", f.Path, err)
			}
		}
	}
	return digestOf(manifest), out.Close()
}

func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
}

func writeBytes(out *tar.Writer, name string, data []byte) error {
	if err := out.WriteHeader(header(name, int64(len(data)))); err != nil {
		return err
	}
	_, err := out.Write(data)
	return err
}

func writeFile(out *tar.Writer, f File, open func(File) (io.ReadCloser, error)) error {
	r, err := open(f)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := out.WriteHeader(header(f.Path, f.Bytes)); err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, h), r)
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); n != f.Bytes || got != string(f.SHA256) {
		return invalid("file %q has %d bytes with SHA-256 %s instead of %d with %s", f.Path, n, got, f.Bytes, f.SHA256)
	}
	return nil
}

func digestOf(data []byte) models.Digest {
	sum := sha256.Sum256(data)
	return models.Digest(hex.EncodeToString(sum[:]))
}
