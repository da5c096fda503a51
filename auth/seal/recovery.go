package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
)

// A recovery key is a pair: its public half stands in the configuration of every
// node, and each backup carries the root key sealed for it; its private half lies
// in a safe, and opens every backup without the root key's own file or shares.
//
// What is sealed is: version, an ephemeral X25519 key, and AES-256-GCM of the root
// key's file under HKDF-SHA256 of the shared secret, both public keys its salt.
const (
	recoveryPublic  = "cloister-recovery-key-v1:"
	recoveryPrivate = "cloister-recovery-secret-v1:"
	recoveryVersion = 1
)

// NewRecoveryKey makes a recovery key: what is kept in a safe, and what is
// configured.
func NewRecoveryKey() (secret, public string, err error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return "", "", err
	}
	return recoveryPrivate + base64.StdEncoding.EncodeToString(key.Bytes()) + "\n",
		recoveryPublic + base64.StdEncoding.EncodeToString(key.PublicKey().Bytes()), nil
}

// CheckRecoveryKey reports why a text is no public recovery key.
func CheckRecoveryKey(public string) error {
	_, err := parseRecoveryKey(public)
	return err
}

func parseRecoveryKey(public string) (*ecdh.PublicKey, error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(public), recoveryPublic)
	b, err := base64.StdEncoding.DecodeString(text)
	if ok && err == nil {
		var key *ecdh.PublicKey
		if key, err = ecdh.X25519().NewPublicKey(b); err == nil {
			return key, nil
		}
	}
	return nil, fmt.Errorf("this is no public recovery key: give what cloister backup keygen printed, %s…", recoveryPublic) // nothing was to be opened
}

// SealRoot seals the root key for the holder of a recovery key.
func (k *Keys) SealRoot(public string) ([]byte, error) {
	to, err := parseRecoveryKey(public)
	if err != nil {
		return nil, err
	}
	own, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	aead, err := recoveryAEAD(own, to, own.PublicKey(), to)
	if err != nil {
		return nil, err
	}
	out := append([]byte{recoveryVersion}, own.PublicKey().Bytes()...)
	text := rootPrefix + base64.StdEncoding.EncodeToString(k.root) + "\n"
	return aead.Seal(out, make([]byte, aead.NonceSize()), []byte(text), nil), nil
}

// OpenRoot gives the root key's file to the holder of the recovery key.
func OpenRoot(secret string, sealed []byte) ([]byte, error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(secret), recoveryPrivate)
	b, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil {
		return nil, fmt.Errorf("%w: this is no recovery key: give the file that cloister backup keygen wrote", ErrSeal)
	}
	own, err := ecdh.X25519().NewPrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("%w: the recovery key is damaged: use its copy", ErrSeal)
	}
	const head = 1 + 32
	if len(sealed) < head || sealed[0] != recoveryVersion {
		return nil, fmt.Errorf("%w: this backup was made without a recovery key: give the root key", ErrSeal)
	}
	from, err := ecdh.X25519().NewPublicKey(sealed[1:head])
	if err != nil {
		return nil, fmt.Errorf("%w: what was sealed for the recovery key is damaged", ErrSeal)
	}
	aead, err := recoveryAEAD(own, from, from, own.PublicKey())
	if err != nil {
		return nil, err
	}
	root, err := aead.Open(nil, make([]byte, aead.NonceSize()), sealed[head:], nil)
	if err != nil {
		return nil, fmt.Errorf("%w: this backup was made for another recovery key", ErrSeal)
	}
	return root, nil
}

// recoveryAEAD is good for one message: the ephemeral key is used once.
func recoveryAEAD(own *ecdh.PrivateKey, other, ephemeral, recipient *ecdh.PublicKey) (cipher.AEAD, error) {
	secret, err := own.ECDH(other)
	if err != nil {
		return nil, err
	}
	salt := append(ephemeral.Bytes(), recipient.Bytes()...)
	key, err := hkdf.Key(sha256.New, secret, salt, "cloister/recovery/v1", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
