package seal

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// openLogKey opens the audit log's signing key, making it at the first start. Its
// name is the log's origin: no two installations share one.
func (k *Keys) openLogKey() error {
	skey, err := k.sealedFile(logFile, func() ([]byte, error) {
		id := make([]byte, 8)
		if _, err := rand.Read(id); err != nil {
			return nil, err
		}
		skey, _, err := note.GenerateKey(rand.Reader, "cloister.internal/audit/"+hex.EncodeToString(id))
		return []byte(skey), err
	})
	if err != nil {
		return err
	}
	if k.log, err = note.NewSigner(string(skey)); err != nil {
		return fmt.Errorf("%w: the audit log's key: %w", ErrSeal, err)
	}
	if k.vkey, err = verifierKey(string(skey)); err != nil {
		return fmt.Errorf("%w: the audit log's key: %w", ErrSeal, err)
	}
	return nil
}

// verifierKey is the public half of a signed-note key. Its form is
// PRIVATE+KEY+name+hash+base64(algorithm, seed): see golang.org/x/mod/sumdb/note.
func verifierKey(skey string) (string, error) {
	parts := strings.SplitN(skey, "+", 5)
	if len(parts) != 5 {
		return "", fmt.Errorf("it is damaged")
	}
	key, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(key) != 1+ed25519.SeedSize {
		return "", fmt.Errorf("it is damaged")
	}
	public := ed25519.NewKeyFromSeed(key[1:]).Public().(ed25519.PublicKey)
	return note.NewEd25519VerifierKey(parts[2], public)
}
