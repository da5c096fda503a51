package sealed

import (
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
)

// Pieces seals the pieces of one file whose layout belongs to a library that asks
// for each piece to be changed on its way to the disk and back. Pieces are bound to
// their file, not to their place in it. It is safe for concurrent use.
type Pieces struct {
	id   string
	aead cipher.AEAD
}

// pieceForm begins the id of a file's pieces.
const pieceForm = "sealed1:"

// NewPieces is for a new file: it has a key of its own. Its ID is kept with the
// file, in clear.
func NewPieces(ring Ring, purpose string) (*Pieces, error) {
	id, key := ring.Active()
	var head recordHead
	binary.BigEndian.PutUint32(head[:], id)
	random(head[idBytes:])
	aead, err := newAEAD(key, head[idBytes:], "pieces/"+purpose)
	if err != nil {
		return nil, err
	}
	return &Pieces{pieceForm + base64.RawURLEncoding.EncodeToString(head[:]), aead}, nil
}

// OpenPieces is for a file that is there.
func OpenPieces(ring Ring, purpose, id string) (*Pieces, error) {
	text, ok := strings.CutPrefix(id, pieceForm)
	b, err := base64.RawURLEncoding.DecodeString(text)
	if !ok || err != nil || len(b) != len(recordHead{}) {
		return nil, ErrNotSealed
	}
	key, err := lookup(ring, binary.BigEndian.Uint32(b))
	if err != nil {
		return nil, err
	}
	aead, err := newAEAD(key, b[idBytes:], "pieces/"+purpose)
	if err != nil {
		return nil, err
	}
	return &Pieces{id, aead}, nil
}

// ID is what OpenPieces needs.
func (p *Pieces) ID() string { return p.id }

// Seal returns a piece sealed.
func (p *Pieces) Seal(plain []byte) []byte {
	nonce := make([]byte, nonceBytes, nonceBytes+len(plain)+tagBytes)
	random(nonce)
	return p.aead.Seal(nonce, nonce, plain, nil)
}

// Open returns what a piece holds.
func (p *Pieces) Open(piece []byte) ([]byte, error) {
	if len(piece) < nonceBytes+tagBytes {
		return nil, fmt.Errorf("a piece of %d bytes: %w", len(piece), ErrDamaged)
	}
	plain, err := p.aead.Open(nil, piece[:nonceBytes], piece[nonceBytes:], nil)
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}
