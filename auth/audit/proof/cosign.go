package proof

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

const cosignedPrefix = "cosigned/"

// algCosignature is the C2SP signature type of an Ed25519 cosignature
// (tlog-cosignature, cosignature/v1).
const algCosignature = 4

// Cosigned is a node's word for a checkpoint whose root it had recomputed from
// the records that it holds.
type Cosigned struct {
	Node string    `json:"node"`
	Size uint64    `json:"size"` // of the checkpoint
	Time time.Time `json:"time"`
	Key  string    `json:"key"` // the cosigner's verifier key
}

// Cosignature is a checkpoint with the log key's signature and one cosignature,
// as a bundle carries it for a node.
type Cosignature struct {
	Key  string `json:"key"`  // verifier key: name+hash+base64(0x04, key)
	Note string `json:"note"` // the signed checkpoint and the cosignature's line
}

// CosignerName is the name that a node cosigns under.
func CosignerName(node string) string { return "cloister.internal/node/" + node }

// CosignerKey is the verifier key of a node's cosigner.
func CosignerKey(node string, pub ed25519.PublicKey) string {
	key := append([]byte{algCosignature}, pub...)
	return fmt.Sprintf("%s+%08x+%s", CosignerName(node), cosignerHash(CosignerName(node), key), base64.StdEncoding.EncodeToString(key))
}

func cosignerHash(name string, key []byte) uint32 {
	sum := sha256.Sum256(append([]byte(name+"\n"), key...))
	return binary.BigEndian.Uint32(sum[:])
}

func cosignedText(text string, at uint64) []byte {
	return fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, text)
}

// Cosign adds a node's cosignature to a signed checkpoint.
func Cosign(note []byte, node string, key ed25519.PrivateKey, at time.Time) (Cosignature, error) {
	text, _, ok := strings.Cut(string(note), "\n\n")
	if !ok || at.Unix() <= 0 {
		return Cosignature{}, errCheckpoint
	}
	seconds := uint64(at.Unix())
	pub := key.Public().(ed25519.PublicKey)
	sig := binary.BigEndian.AppendUint32(nil, cosignerHash(CosignerName(node), append([]byte{algCosignature}, pub...)))
	sig = binary.BigEndian.AppendUint64(sig, seconds)
	sig = append(sig, ed25519.Sign(key, cosignedText(text+"\n", seconds))...)
	line := fmt.Sprintf("— %s %s\n", CosignerName(node), base64.StdEncoding.EncodeToString(sig))
	return Cosignature{Key: CosignerKey(node, pub), Note: string(note) + line}, nil
}

var errCosignature = errors.New("the cosignature does not fit the checkpoint")

// open checks the cosignature, which must be spelt in the one way, and returns the
// signed checkpoint without it and when it was made.
func (c Cosignature) open(node string) (note []byte, at time.Time, err error) {
	name, key := CosignerName(node), []byte(nil)
	fields := strings.SplitN(c.Key, "+", 3)
	if len(fields) == 3 {
		key, _ = base64.StdEncoding.Strict().DecodeString(fields[2]) // compared below
	}
	if len(key) != 1+ed25519.PublicKeySize || c.Key != CosignerKey(node, key[1:]) {
		return nil, at, errors.New("its key is not one of a cosigner of that node")
	}
	i := strings.LastIndex(strings.TrimSuffix(c.Note, "\n"), "\n")
	if i < 0 {
		return nil, at, errCosignature
	}
	rest, line := c.Note[:i+1], c.Note[i+1:]
	sig, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSuffix(strings.TrimPrefix(line, "— "+name+" "), "\n"))
	if err != nil || len(sig) != 12+ed25519.SignatureSize || line != fmt.Sprintf("— %s %s\n", name, base64.StdEncoding.EncodeToString(sig)) {
		return nil, at, errCosignature
	}
	text, _, _ := strings.Cut(rest, "\n\n")
	seconds := binary.BigEndian.Uint64(sig[4:])
	if binary.BigEndian.Uint32(sig) != cosignerHash(name, key) || seconds > 1<<40 || !ed25519.Verify(key[1:], cosignedText(text+"\n", seconds), sig[12:]) {
		return nil, at, errCosignature
	}
	return []byte(rest), time.Unix(int64(seconds), 0).UTC(), nil
}

// nodeWord is a node's name: see node/config.
var nodeWord = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

// cosigned writes one file for each node and returns the sizes of the checkpoints.
func (b *bundleWriter) cosigned() (sizes []uint64, err error) {
	for _, node := range slices.Sorted(maps.Keys(b.Cosigned)) {
		c := b.Cosigned[node]
		cp, err := ParseCheckpoint([]byte(c.Note))
		if err != nil || !nodeWord.MatchString(node) {
			return nil, fmt.Errorf("the cosignature of %s: %w", node, errCheckpoint)
		}
		if cp.Size > b.cp.Size {
			continue // newer than what is exported
		}
		data, err := json.MarshalIndent(c, "", "  ")
		if err != nil {
			return nil, err
		}
		if err := b.small(cosignedPrefix+node, append(data, '\n')); err != nil {
			return nil, err
		}
		sizes = append(sizes, cp.Size)
	}
	return sizes, nil
}

// checkCosigned proves that each checkpoint that a node cosigned is one of the log
// key and continued by the bundle's.
func (b *bundle) checkCosigned() {
	for _, f := range b.files {
		node, ok := strings.CutPrefix(f.name, cosignedPrefix)
		if !ok {
			continue
		}
		data, _, ok := b.named(f.name, maxCheckpointBytes)
		if !ok {
			return
		}
		c, err := b.openCosigned(node, data)
		if err != nil {
			b.add(inFile(f, "the cosignature of node %s is wrong: %v", node, err))
			return
		}
		b.report.Cosigned = append(b.report.Cosigned, c)
	}
}

func (b *bundle) openCosigned(node string, data []byte) (Cosigned, error) {
	var c Cosignature
	if err := json.Unmarshal(data, &c); err != nil || !nodeWord.MatchString(node) {
		return Cosigned{}, errors.New("it cannot be read")
	}
	note, at, err := c.open(node)
	if err != nil {
		return Cosigned{}, err
	}
	cp, _, err := b.openCheckpoint(note)
	if err == nil {
		err = b.continues(cp)
	}
	return Cosigned{Node: node, Size: cp.Size, Time: at, Key: c.Key}, err
}
