// Package sealed encrypts what a node keeps on its disk.
//
// It promises: what was sealed opens only with the same key and the same
// additional data; a changed, cut, moved or reordered byte is an error, never
// other plaintext; no two messages share a key and a nonce, also when a disk or
// a virtual machine goes back to an earlier state; a file can be read at any
// place without opening the rest. A key that is not in the ring is an error that
// names it. A nil Ring leaves everything plain: for tests, and to show that a
// test which looks for plaintext can find it.
//
// Every message begins with the id of the key that it was sealed with, so keys
// can be changed while both are in use. Keys of the ring encrypt nothing
// themselves: each file, and each Box, has a key of its own derived with a random
// salt (HKDF-SHA256, RFC 5869), so that the number of messages under one key is
// far below what random nonces of 96 bits allow (2^32, NIST SP 800-38D).
//
// It may import nothing of Cloister.
package sealed

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Ring holds a node's data keys. Its methods are called on hot paths and by many
// goroutines; the bytes that they return stay as they are.
type Ring interface {
	// Active is the key to seal with: its id, not 0, and 32 bytes.
	Active() (id uint32, key []byte)
	// Key is a key to open with.
	Key(id uint32) ([]byte, bool)
}

// The ways in which something cannot be opened.
var (
	ErrNotSealed  = errors.New("it is not encrypted, or its beginning is damaged: restore it from its copy")
	ErrUnknownKey = errors.New("it was encrypted with a key that this node's keyring does not hold: put back seal/keyring.sealed as it was, or let the node rejoin")
	ErrDamaged    = errors.New("it was changed, cut or moved since it was encrypted: restore it from its copy")
)

const (
	idBytes    = 4
	keyBytes   = 32
	saltBytes  = 16
	nonceBytes = 12
	tagBytes   = 16
)

// Derive returns a key of 32 bytes for one named purpose, for software that
// encrypts by itself.
func Derive(key []byte, purpose string) []byte { return derive(key, nil, purpose) }

func derive(key, salt []byte, purpose string) []byte {
	k, err := hkdf.Key(sha256.New, key, salt, "cloister/sealed/"+purpose, keyBytes)
	if err != nil {
		panic(err) // only for a length that SHA-256 cannot give
	}
	return k
}

// newAEAD is AES-256-GCM under a derived key.
func newAEAD(key, salt []byte, purpose string) (cipher.AEAD, error) {
	if len(key) != keyBytes {
		return nil, fmt.Errorf("a data key has %d bytes instead of %d: the keyring is damaged", len(key), keyBytes)
	}
	block, err := aes.NewCipher(derive(key, salt, purpose))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func lookup(ring Ring, id uint32) ([]byte, error) {
	key, ok := ring.Key(id)
	if !ok {
		return nil, fmt.Errorf("key %d: %w", id, ErrUnknownKey)
	}
	return key, nil
}

// RecordKey is the id of the key that a record was sealed with, 0 for what is no
// record.
func RecordKey(sealed []byte) uint32 {
	if len(sealed) < RecordOverhead {
		return 0
	}
	return binary.BigEndian.Uint32(sealed)
}

func random(b []byte) {
	rand.Read(b) // it ends the process rather than fail
}
