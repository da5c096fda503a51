// Package seal keeps the keys that everything else rests on.
//
// It promises: the root key leaves its file only into memory, and a file that
// others may read is refused; every other key is derived from it for one named
// purpose or sealed under it; what was sealed opens only with the same purpose
// and additional data; a changed byte is an error, never other plaintext.
//
// Today's seal is a file, meant for development and for single machines whose
// disk is encrypted. It may import nothing of Cloister.
package seal

import (
	"errors"

	"golang.org/x/mod/sumdb/note"
)

// Keys is an open seal. It is safe for concurrent use.
type Keys struct {
	dir  string
	root [32]byte
	log  note.Signer
	vkey string
}

// ErrSeal is the kind of every error about a key that is missing, exposed,
// damaged or of another installation.
var ErrSeal = errors.New("the seal cannot be opened")

// Open opens the seal in dir (DIR/seal of the data directory), creating it at
// the first start.
func Open(dir string) (*Keys, error) { return open(dir) }

// Storage is the key for encryption at rest, 32 bytes.
func (k *Keys) Storage() []byte { return k.derive("storage/v1") }

// LogSigner signs the checkpoints of the audit log (C2SP signed note, Ed25519).
func (k *Keys) LogSigner() note.Signer { return k.log }

// LogVerifierKey is the public half of LogSigner in the C2SP "vkey" form.
func (k *Keys) LogVerifierKey() string { return k.vkey }
