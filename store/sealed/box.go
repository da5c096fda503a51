package sealed

import (
	"crypto/cipher"
	"encoding/binary"
	"sync"
)

// RecordOverhead is by how much a record is longer than what it holds.
const RecordOverhead = idBytes + saltBytes + nonceBytes + tagBytes

const (
	maxUses   = 1 << 30 // of one derived key: a quarter of what random nonces allow
	maxOpened = 64      // derived keys remembered to open with
)

// Box seals and opens many records for one purpose. It is safe for concurrent
// use. A nil Ring makes it pass everything through.
type Box struct {
	ring    Ring
	purpose string

	mu     sync.RWMutex // guards all below
	id     uint32       // key in use to seal; 0 = none yet
	salt   [saltBytes]byte
	aead   cipher.AEAD
	uses   uint32
	opened map[recordHead]cipher.AEAD
}

// recordHead names a derived key.
type recordHead [idBytes + saltBytes]byte

// NewBox makes a box. Records of different purposes never open as one another.
func NewBox(ring Ring, purpose string) *Box {
	return &Box{ring: ring, purpose: purpose}
}

// Plain reports that the box leaves everything as it is.
func (b *Box) Plain() bool { return b.ring == nil }

// Seal appends the record of plain, bound to aad, to dst.
func (b *Box) Seal(dst, aad, plain []byte) ([]byte, error) {
	if b.ring == nil {
		return append(dst, plain...), nil
	}
	aead, head, err := b.sealer()
	if err != nil {
		return dst, err
	}
	at := len(dst)
	dst = grow(dst, RecordOverhead+len(plain))
	dst = append(dst, head[:]...)
	dst = dst[:at+len(head)+nonceBytes]
	nonce := dst[at+len(head):]
	random(nonce)
	return aead.Seal(dst, nonce, plain, aad), nil
}

// Open appends what the record holds to dst.
func (b *Box) Open(dst, aad, record []byte) ([]byte, error) {
	if b.ring == nil {
		return append(dst, record...), nil
	}
	if len(record) < RecordOverhead {
		return dst, ErrNotSealed
	}
	head := recordHead(record)
	aead, err := b.opener(head)
	if err != nil {
		return dst, err
	}
	rest := record[len(head):]
	out, err := aead.Open(dst, rest[:nonceBytes], rest[nonceBytes:], aad)
	if err != nil {
		return dst, ErrDamaged
	}
	return out, nil
}

func grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	return append(make([]byte, 0, len(b)+n), b...)
}

// sealer returns what to seal with, deriving a new key when the ring has another
// active one or the present one was used enough.
func (b *Box) sealer() (cipher.AEAD, recordHead, error) {
	id, key := b.ring.Active()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.aead == nil || b.id != id || b.uses >= maxUses {
		random(b.salt[:])
		aead, err := newAEAD(key, b.salt[:], b.purpose)
		if err != nil {
			return nil, recordHead{}, err
		}
		b.id, b.aead, b.uses = id, aead, 0
	}
	b.uses++
	var head recordHead
	binary.BigEndian.PutUint32(head[:], id)
	copy(head[idBytes:], b.salt[:])
	return b.aead, head, nil
}

// opener returns what opens records with this head.
func (b *Box) opener(head recordHead) (cipher.AEAD, error) {
	id := binary.BigEndian.Uint32(head[:])
	key, err := lookup(b.ring, id) // also for one that is remembered: its key may be gone
	if err != nil {
		return nil, err
	}
	b.mu.RLock()
	aead, ok := b.opened[head]
	b.mu.RUnlock()
	if ok {
		return aead, nil
	}
	if aead, err = newAEAD(key, head[idBytes:], b.purpose); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.opened == nil || len(b.opened) >= maxOpened {
		b.opened = map[recordHead]cipher.AEAD{}
	}
	b.opened[head] = aead
	return aead, nil
}

// OpenInPlace is Open for a record that the caller needs no longer: what it held
// takes its place.
func (b *Box) OpenInPlace(aad, record []byte) ([]byte, error) {
	if b.ring == nil || len(record) < RecordOverhead {
		return b.Open(nil, aad, record)
	}
	at := idBytes + saltBytes + nonceBytes // where the ciphertext begins
	return b.Open(record[at:at], aad, record)
}
