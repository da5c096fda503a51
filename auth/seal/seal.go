// Package seal keeps the keys that everything else rests on.
//
// It promises: the root key leaves its file only into memory, and a file that
// others may read is refused; every other key is derived from it for one named
// purpose or sealed under it; what was sealed opens only with the same
// additional data; a changed byte is an error, never other plaintext; a lost root
// key is never replaced by a new one over data that the old one sealed.
//
// A seal is a file, for single machines and unattended starts, or shares, for which
// so many of some named people must come at each start. It may import store/sealed.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/note"
)

// ErrSeal is the kind of every error about a key that is missing, exposed,
// damaged or of another installation.
var ErrSeal = errors.New("the seal cannot be opened")

// The files of the seal's folder.
const (
	rootFile = "root.key"       // 0600: the root key
	logFile  = "log.key.sealed" // the audit log's signing key
	caFile   = "ca.key.sealed"  // the CA's key
	caCert   = "ca.pem"         // the CA's certificate
)

const rootPrefix = "cloister-root-key-v1:"

// Keys is an open seal. It is safe for concurrent use.
type Keys struct {
	dir  string
	root []byte
	log  note.Signer
	vkey string

	keeping sync.Mutex // held while it changes how the root key is kept
}

// Open opens the seal in dir (DIR/seal of the data directory), creating it at
// the first start.
//
// A seal by shares cannot be opened so: see Lock.
func Open(dir string) (*Keys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	root, err := readRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		root, err = createRoot(dir)
	}
	if err != nil {
		return nil, err
	}
	if err := stale(dir); err != nil {
		return nil, err
	}
	return openWith(dir, root)
}

// stale removes a file of shares that a change back to the root key's file, which
// is there, left behind.
func stale(dir string) error {
	if err := os.Remove(filepath.Join(dir, sharesFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrSeal, err)
	}
	return nil
}

func openWith(dir string, root []byte) (*Keys, error) {
	k := &Keys{dir: dir, root: root}
	if err := k.openLogKey(); err != nil {
		return nil, err
	}
	return k, nil
}

// Storage is the key for encryption at rest, 32 bytes.
func (k *Keys) Storage() []byte { return k.derive("storage/v1", nil) }

// LogSigner signs the checkpoints of the audit log (C2SP signed note, Ed25519).
func (k *Keys) LogSigner() note.Signer { return k.log }

// LogVerifierKey is the public half of LogSigner in the C2SP "vkey" form.
func (k *Keys) LogVerifierKey() string { return k.vkey }

// derive returns 32 bytes of HKDF-SHA256 (RFC 5869) over the root key.
func (k *Keys) derive(purpose string, salt []byte) []byte {
	key, err := hkdf.Key(sha256.New, k.root, salt, "cloister/"+purpose, 32)
	if err != nil {
		panic(err) // only for a length that SHA-256 cannot give
	}
	return key
}

// The form of a sealed value: version, salt, AES-256-GCM ciphertext and tag. Each
// value has a key of its own, derived with its random salt, so that the number of
// values is not bounded by the nonce.
const (
	sealVersion = 1
	saltBytes   = 32
)

// Seal encrypts and authenticates plain, bound to aad.
func (k *Keys) Seal(aad, plain []byte) ([]byte, error) {
	salt := make([]byte, saltBytes)
	if _, err := rand.Read(salt); err != nil {
		return nil, err
	}
	aead, err := k.aead(salt)
	if err != nil {
		return nil, err
	}
	out := append([]byte{sealVersion}, salt...)
	return aead.Seal(out, make([]byte, aead.NonceSize()), plain, aad), nil
}

// Open undoes Seal; any change to sealed or aad is an error.
func (k *Keys) Open(aad, sealed []byte) ([]byte, error) {
	if len(sealed) < 1+saltBytes || sealed[0] != sealVersion {
		return nil, fmt.Errorf("%w: this is not a sealed value", ErrSeal)
	}
	aead, err := k.aead(sealed[1 : 1+saltBytes])
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, make([]byte, aead.NonceSize()), sealed[1+saltBytes:], aad)
	if err != nil {
		return nil, fmt.Errorf("%w: a sealed value was changed, or sealed for something else or by another root key", ErrSeal)
	}
	return plain, nil
}

func (k *Keys) aead(salt []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(k.derive("seal/v1", salt))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func readRoot(dir string) ([]byte, error) {
	path := filepath.Join(dir, rootFile)
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrSeal, path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: others may read %s: run chmod 600 on it", ErrSeal, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	text, ok := strings.CutPrefix(strings.TrimSpace(string(b)), rootPrefix)
	root, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(root) != 32 {
		return nil, fmt.Errorf("%w: %s is damaged: restore it from its copy", ErrSeal, path)
	}
	return root, nil
}

func createRoot(dir string) ([]byte, error) {
	for _, name := range []string{sharesFile, pendingFile} {
		if exists(dir, name) {
			return nil, fmt.Errorf("%w: its holders must bring their shares", ErrSeal)
		}
	}
	for _, name := range []string{logFile, caFile, ringFile} {
		if exists(dir, name) {
			return nil, fmt.Errorf("%w: %s is missing but %s was sealed with it: restore it from its copy", ErrSeal, filepath.Join(dir, rootFile), name)
		}
	}
	root := make([]byte, 32)
	if _, err := rand.Read(root); err != nil {
		return nil, err
	}
	if err := create(dir, rootFile, rootText(root), 0o600); err != nil {
		return nil, err
	}
	return readRoot(dir) // another process may have been first
}

func rootText(root []byte) []byte {
	return []byte(rootPrefix + base64.StdEncoding.EncodeToString(root) + "\n")
}

// create makes a file that is whole and durable or absent; one that is there
// already stays as it is.
func create(dir, name string, content []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(dir, name+".tmp-*")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSeal, err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	err = errors.Join(tmp.Chmod(mode), write(tmp, content), tmp.Sync(), tmp.Close())
	if err != nil {
		return fmt.Errorf("%w: write %s: %w", ErrSeal, name, err)
	}
	if err := take(tmp.Name(), filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %w", ErrSeal, err)
	}
	return syncDir(dir)
}

// take gives a file a name that nothing has. On a file system without hard links
// it relies on the lock of the node's folder.
func take(tmp, path string) error {
	err := os.Link(tmp, path)
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return fs.ErrExist
	}
	return os.Rename(tmp, path)
}

func write(f *os.File, content []byte) error {
	_, err := f.Write(content)
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSeal, err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// sealedFile reads a file of the seal's folder, after making it with what fresh
// returns if it is not there. The file's name is bound into it.
func (k *Keys) sealedFile(name string, fresh func() ([]byte, error)) ([]byte, error) {
	path := filepath.Join(k.dir, name)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		plain, err := fresh()
		if err != nil {
			return nil, fmt.Errorf("%w: make %s: %w", ErrSeal, name, err)
		}
		sealed, err := k.Seal([]byte(name), plain)
		if err != nil {
			return nil, fmt.Errorf("%w: seal %s: %w", ErrSeal, name, err)
		}
		if err := create(k.dir, name, sealed, 0o600); err != nil {
			return nil, err
		}
	}
	sealed, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	plain, err := k.Open([]byte(name), sealed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return plain, nil
}
