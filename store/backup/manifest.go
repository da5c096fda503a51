package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine"
)

const (
	manifestVersion  = 1
	manifestName     = "manifest"
	blobIndexName    = "blobs"
	packPrefix       = "blobs-"
	maxManifestBytes = 16 << 20
)

var partNames = [2]string{"state", "history"} // in the order of machine.Databases

// Manifest says what a backup holds.
type Manifest struct {
	Backup  int       `json:"backup"` // the version of this form
	Format  int       `json:"format"` // of the data; see store.Format
	ID      string    `json:"id"`     // random
	Name    string    `json:"name"`   // of the folder
	Cluster string    `json:"cluster"`
	Node    string    `json:"node"` // that made it
	Program string    `json:"program"`
	Time    time.Time `json:"time"`
	// Lineage is equal for backups whose versions mean the same: a restore begins
	// a new one, and so a new chain.
	Lineage string          `json:"lineage"`
	Head    machine.Head    `json:"head"`
	Parent  *Parent         `json:"parent,omitempty"` // nil = the first of its chain
	Parts   [2]machine.Part `json:"parts"`            // state, history
	Blobs   Blobset         `json:"blobs"`            // of this link
	Files   []File          `json:"files"`
	Key     []byte          `json:"key"` // wrapped by the root key
	// Recovery is the root key for the holder of the recovery key; empty when
	// none was set.
	Recovery []byte            `json:"recovery,omitempty"`
	Seal     map[string][]byte `json:"seal"` // the sealed files of the seal's folder
	Keys     json.RawMessage   `json:"keys"` // by which the signature is checked
}

// Parent names the backup that a backup continues.
type Parent struct {
	Name   string        `json:"name"`
	At     store.Version `json:"at"`
	SHA256 string        `json:"sha256"` // of its manifest
}

// Blobset counts blobs.
type Blobset struct {
	Count int64 `json:"count"`
	Bytes int64 `json:"bytes"`
}

// File is one file of a backup.
type File struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Bytes is what the backup's files take.
func (m *Manifest) Bytes() int64 {
	n := int64(0)
	for _, f := range m.Files {
		n += f.Bytes
	}
	return n
}

func (m *Manifest) file(name string) (File, bool) {
	for _, f := range m.Files {
		if f.Name == name {
			return f, true
		}
	}
	return File{}, false
}

// text is what is signed.
func (m *Manifest) text() (string, error) {
	b, err := json.MarshalIndent(m, "", " ")
	return string(b) + "\n", err
}

var namePattern = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-v[0-9]{1,20}$`)

func nameOf(t time.Time, v store.Version) string {
	return fmt.Sprintf("%s-v%d", t.UTC().Format("20060102T150405Z"), v)
}

// ValidName reports whether a word can name a backup.
func ValidName(name string) bool { return namePattern.MatchString(name) }

var errManifest = errors.New("it is no manifest")

// readManifest reads and verifies the manifest of a backup, and returns its hash.
func readManifest(dir string, verify VerifyFunc) (*Manifest, string, error) {
	name := filepath.Base(dir)
	path := filepath.Join(dir, manifestName)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, "", refuse(ErrMissing, "the backup %s has no manifest: it was cut, or its copy did not come to the end", name)
	case err != nil:
		return nil, "", fmt.Errorf("read the backup %s: %w", name, err)
	case info.Size() > maxManifestBytes:
		return nil, "", refuse(ErrDamaged, "the backup %s is damaged: the file manifest was changed", name)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, "", fmt.Errorf("read the backup %s: %w", name, err)
	}
	m, err := parseManifest(b, verify)
	if err != nil {
		kind := ErrDamaged
		if errors.Is(err, ErrForeign) || errors.Is(err, store.ErrFormat) {
			return nil, "", fmt.Errorf("the backup %s is refused: %w", name, err)
		}
		return nil, "", refuse(kind, "the backup %s is damaged, the file manifest was changed or cut: %v", name, err)
	}
	if m.Name != name {
		return nil, "", refuse(ErrDamaged, "the folder %s holds the backup %s: give it back its name", name, m.Name)
	}
	sum := sha256.Sum256(b)
	return m, hex.EncodeToString(sum[:]), nil
}

// parseManifest trusts nothing of the note before verify has opened it but the
// key history, which verify judges.
func parseManifest(note []byte, verify VerifyFunc) (*Manifest, error) {
	i := bytes.LastIndex(note, []byte("\n\n"))
	if i < 0 {
		return nil, errManifest
	}
	var claimed struct {
		Backup int             `json:"backup"`
		Keys   json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(note[:i+1], &claimed); err != nil {
		return nil, errManifest
	}
	text, err := verify(note, claimed.Keys)
	if err != nil {
		return nil, err
	}
	if claimed.Backup > manifestVersion {
		return nil, fmt.Errorf("%w: it was written by a newer program; install that one to read it", store.ErrFormat)
	}
	m := &Manifest{}
	if err := json.Unmarshal([]byte(text), m); err != nil {
		return nil, errManifest
	}
	if err := store.CheckFormat(m.Format); err != nil {
		return nil, err
	}
	return m, m.valid()
}

func (m *Manifest) valid() error {
	names := map[string]bool{}
	for _, f := range m.Files {
		if f.Name == manifestName || filepath.Base(f.Name) != f.Name || strings.HasPrefix(f.Name, ".") || names[f.Name] || f.Bytes < 0 {
			return errManifest
		}
		names[f.Name] = true
	}
	if !names[partNames[0]] || !names[partNames[1]] || !names[blobIndexName] || !ValidName(m.Name) {
		return errManifest
	}
	if m.Parent == nil && (!m.Parts[0].Whole || !m.Parts[1].Whole) || m.Parent != nil && !ValidName(m.Parent.Name) {
		return errManifest
	}
	for name := range m.Seal {
		if filepath.Base(name) != name || strings.HasPrefix(name, ".") {
			return errManifest
		}
	}
	return nil
}
