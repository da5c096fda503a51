package proof

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// algEd25519 is the C2SP signature type of Ed25519, the first byte of an
// encoded verifier key.
const algEd25519 = 1

const fingerprintPrefix = "SHA256:"

// Fingerprint is the short name of a log key, noted at setup: "SHA256:" and the
// unpadded base64 of the SHA-256 of the C2SP key encoding (one byte 0x01 for
// Ed25519, then the 32 bytes of the key).
func Fingerprint(pub ed25519.PublicKey) string {
	sum := sha256.Sum256(append([]byte{algEd25519}, pub...))
	return fingerprintPrefix + base64.RawStdEncoding.EncodeToString(sum[:])
}

// FingerprintOf is the fingerprint of a verifier key in the C2SP "vkey" form,
// name+hash+key.
func FingerprintOf(vkey string) (string, error) {
	_, pub, err := parseKey(vkey)
	if err != nil {
		return "", err
	}
	return Fingerprint(pub), nil
}

// parseKey reads a vkey strictly: no other spelling of it is accepted.
func parseKey(vkey string) (note.Verifier, ed25519.PublicKey, error) {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, nil, fmt.Errorf("the log key %q is malformed: %w", vkey, err)
	}
	fields := strings.SplitN(vkey, "+", 3)
	raw, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil || len(raw) != 1+ed25519.PublicKeySize || raw[0] != algEd25519 {
		return nil, nil, fmt.Errorf("the log key %q is not an Ed25519 key", vkey)
	}
	again, err := note.NewEd25519VerifierKey(v.Name(), raw[1:])
	if err != nil || again != vkey {
		return nil, nil, fmt.Errorf("the log key %q is not spelt canonically", vkey)
	}
	return v, raw[1:], nil
}

// parseFingerprint accepts a fingerprint as people paste it.
func parseFingerprint(s string) (string, error) {
	s = strings.TrimRight(strings.TrimSpace(s), "=")
	body, ok := strings.CutPrefix(s, fingerprintPrefix)
	raw, err := base64.RawStdEncoding.Strict().DecodeString(body)
	if !ok || err != nil || len(raw) != sha256.Size {
		return "", fmt.Errorf("%q is not a log key fingerprint: give the SHA256:… text that was noted at setup", s)
	}
	return s, nil
}

// Key is one log key and how it came to be trusted.
type Key struct {
	VerifierKey string `json:"vkey"`
	Fingerprint string `json:"fingerprint"`
	FromSize    uint64 `json:"from_size"`           // signs checkpoints of at least this size
	FromTime    string `json:"from_time,omitempty"` // RFC 3339
	// Handover is empty for the first key. For every other it is a signed note
	// (see HandoverText) that carries the signatures of the key before and of
	// this one.
	Handover string `json:"handover,omitempty"`
}

// HandoverText is what both keys sign when the log key is changed.
func HandoverText(origin, oldKey, newKey string, size uint64) string {
	return fmt.Sprintf("cloister-log-key/v1\n%s\n%s\n%s\n%d\n", origin, oldKey, newKey, size)
}

var errKeyOrder = errors.New("the key history is not a chain")

// keyring is the part of a key history that a noted fingerprint vouches for.
// Each key in it verifies checkpoints whose size is in [from, until).
type keyring struct {
	origin string
	keys   []Key
	verify []note.Verifier
}

// newKeyring checks the whole history: one origin, growing sizes, each handover
// signed by both keys; and that the fingerprint is one of its keys. A chain that
// both sides signed lets any of its keys vouch for all others.
func newKeyring(keys []Key, fingerprint string) (*keyring, error) {
	r := &keyring{keys: keys}
	known := false
	for i, k := range keys {
		v, pub, err := parseKey(k.VerifierKey)
		if err != nil {
			return nil, err
		}
		if k.Fingerprint != Fingerprint(pub) {
			return nil, fmt.Errorf("key %d does not have the fingerprint that stands beside it", i+1)
		}
		known = known || k.Fingerprint == fingerprint
		r.verify = append(r.verify, v)
		if i == 0 {
			r.origin = v.Name()
			if k.Handover != "" {
				return nil, errKeyOrder
			}
			continue
		}
		if err := r.checkHandover(i); err != nil {
			return nil, err
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no log key")
	}
	if !known {
		return nil, &unknownKeyError{have: keys[len(keys)-1].Fingerprint, want: fingerprint}
	}
	return r, nil
}

func (r *keyring) checkHandover(i int) error {
	k, before := r.keys[i], r.keys[i-1]
	if k.FromSize < before.FromSize || r.verify[i].Name() != r.origin {
		return errKeyOrder
	}
	want := HandoverText(r.origin, before.VerifierKey, k.VerifierKey, k.FromSize)
	for _, v := range []note.Verifier{r.verify[i-1], r.verify[i]} {
		n, err := note.Open([]byte(k.Handover), note.VerifierList(v))
		if err != nil || n.Text != want {
			return fmt.Errorf("the change to key %s was not signed by %s", k.Fingerprint, r.keys[i-1].Fingerprint)
		}
	}
	return nil
}

// open verifies a signed note by the key that was in force at the size.
func (r *keyring) open(msg []byte, at uint64) (text string, key Key, err error) {
	i := 0
	for i+1 < len(r.keys) && r.keys[i+1].FromSize <= at {
		i++
	}
	text, err = openStrict(msg, r.verify[i])
	if err != nil && i > 0 && r.keys[i].FromSize == at {
		i-- // a checkpoint of exactly the size of the handover may be of either key
		text, err = openStrict(msg, r.verify[i])
	}
	return text, r.keys[i], err
}

// openStrict opens a note that carries exactly one signature, the verifier's,
// in its one canonical spelling: no byte of it can change unnoticed.
func openStrict(msg []byte, v note.Verifier) (string, error) {
	n, err := note.Open(msg, note.VerifierList(v))
	if err != nil {
		return "", err
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(n.Sigs[0].Base64)
	if err != nil {
		return "", errors.New("the signature is not spelt canonically")
	}
	again := n.Text + "\n— " + v.Name() + " " + base64.StdEncoding.EncodeToString(sig) + "\n"
	if again != string(msg) {
		return "", errors.New("the note is not spelt canonically")
	}
	return n.Text, nil
}

type unknownKeyError struct{ have, want string }

func (e *unknownKeyError) Error() string {
	return fmt.Sprintf("it was signed by the log key %s, not by %s which you gave", e.have, e.want)
}
