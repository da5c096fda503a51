package pack

import (
	"archive/tar"
	"bufio"
	"crypto/ed25519"
	"errors"
	"io"

	"github.com/cloister-os/cloister/models"
)

// Known are the manifests that this program vouches for: SHA-256 → what it is.
// The starter pack's is printed by `go run ./packaging/starter`.
func Known() map[models.Digest]string {
	return map[models.Digest]string{
		starterManifest: "the starter pack",
	}
}

// The ways a pack can be vouched for.
const (
	signedBy = "signed by "
	builtIn  = "built in"
	byHash   = "by hash only"
	bareFile = "a single file"
)

// reader reads a pack from its beginning to its end, once.
type reader struct {
	tar      *tar.Reader
	manifest Manifest
	digest   models.Digest
	trust    string
	pending  *tar.Header // read ahead and not yet handed out
}

// openPack reads the manifest and decides how far it is vouched for.
func openPack(r io.Reader, trusted map[string]ed25519.PublicKey) (*reader, error) {
	p := &reader{tar: tar.NewReader(r)}
	head, err := p.tar.Next()
	if err != nil || head.Name != manifestName || head.Size > maxManifest {
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, tar.ErrHeader) {
			return nil, cutShort(err)
		}
		return nil, invalid("it does not begin with a %s", manifestName)
	}
	data, err := io.ReadAll(p.tar)
	if err != nil {
		return nil, cutShort(err)
	}
	if p.manifest, err = decodeManifest(data); err != nil {
		return nil, err
	}
	p.digest, p.trust = digestOf(data), byHash
	if _, ok := Known()[p.digest]; ok {
		p.trust = builtIn
	}
	if p.pending, err = p.tar.Next(); err != nil {
		return nil, cutShort(err)
	}
	if p.pending.Name != signatureName {
		return p, nil
	}
	return p, p.readSignature(data, trusted)
}

func (p *reader) readSignature(manifest []byte, trusted map[string]ed25519.PublicKey) error {
	if p.pending.Size > maxSignature {
		return invalid("its signature cannot be read")
	}
	sig, err := io.ReadAll(p.tar)
	if err != nil {
		return cutShort(err)
	}
	p.pending = nil
	who, err := verify(manifest, sig, trusted)
	if who != "" {
		p.trust = signedBy + who
	}
	return err
}

// next goes to the file that the manifest names next.
func (p *reader) next(want File) (io.Reader, error) {
	head := p.pending
	p.pending = nil
	if head == nil {
		var err error
		if head, err = p.tar.Next(); err != nil {
			return nil, cutShort(err)
		}
	}
	if head.Name != want.Path || head.Typeflag != tar.TypeReg {
		return nil, invalid("file %q stands where %q should: get the pack again", printable(head.Name), want.Path)
	}
	if head.Size != want.Bytes {
		return nil, invalid("file %q has %d bytes where its manifest says %d: get the pack again", want.Path, head.Size, want.Bytes)
	}
	return p.tar, nil
}

// end checks that nothing follows.
func (p *reader) end() error {
	_, err := p.tar.Next()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return cutShort(err)
	}
	return invalid("there is more in it than its manifest says")
}

// cutShort says of a stream that ended early what to do; other errors stay.
func cutShort(err error) error {
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return models.Fail(errCutShort, "%w", invalid("it is cut short: copy or download it again"))
	case errors.Is(err, tar.ErrHeader):
		return invalid("it is damaged: copy or download it again")
	}
	return err
}

// errCutShort marks a source that ended early, which for an upload means that
// the connection broke and may be resumed.
var errCutShort = errors.New("the data ended early")

// kindOf tells a pack from a GGUF file by its first bytes.
func kindOf(r *bufio.Reader) (isPack bool, err error) {
	const magicAt, blockSize = 257, 512
	block, err := r.Peek(blockSize)
	if len(block) >= 4 && string(block[:4]) == "GGUF" {
		return false, nil
	}
	if len(block) == blockSize && string(block[magicAt:magicAt+5]) == "ustar" {
		return true, nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return false, invalid("it is neither a pack nor a GGUF file: give the path of a .pack or .gguf file")
}
