// Package pack brings models into the house, through packs and single files.
//
// A pack is an uncompressed tar: manifest.json first, then optionally
// manifest.sig, then every file that the manifest names, in its order, and
// nothing else. The manifest holds the size and SHA-256 of each file, so
// whoever vouches for the manifest vouches for every byte. It can be vouched
// for in three ways, which an import reports and the registry keeps:
//
//   - "signed by NAME": manifest.sig is an Ed25519 signature by a key that the
//     administrator has configured;
//   - "built in": the manifest's SHA-256 is in this program (Known). The starter
//     pack is vouched for this way: it is built where it is used, from files
//     pinned by hash, and a key that every clone holds would prove nothing;
//   - "by hash only": the files are what the manifest says, and nobody known
//     says the manifest is right. It is refused when signatures are required.
//
// The same content makes the same bytes: names, order, modes and times of the
// tar are fixed.
//
// The package promises: a pack or file with anything wrong leaves nothing
// behind; an interrupted import goes on where it stopped. It may import store,
// auth, models and models/registry.
package pack

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"path"
	"regexp"
	"strings"
	"unicode"

	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/models/registry"
)

// Format is the only format of packs so far.
const Format = "cloister-pack/1"

// Names and bounds of what is in a pack.
const (
	manifestName  = "manifest.json"
	signatureName = "manifest.sig"
	maxManifest   = 1 << 20
	maxSignature  = 4 << 10
	maxModels     = 32
	maxFiles      = 512
	maxFileBytes  = 1 << 40
	maxTextBytes  = registry.MaxText
)

// Manifest says what is in a pack.
type Manifest struct {
	Format  string  `json:"format"`
	Name    string  `json:"name"`
	Version string  `json:"version"`
	About   string  `json:"about"`
	Models  []Model `json:"models"`
}

// Model is one model of a pack.
type Model struct {
	Name     string      `json:"name"`
	Kind     models.Kind `json:"kind"`
	About    string      `json:"about"`
	Base     bool        `json:"base,omitempty"`     // continues text, follows no instructions
	Template string      `json:"template,omitempty"` // Go template: how messages become a prompt
	Stop     []string    `json:"stop,omitempty"`
	Width    int         `json:"dimensions,omitempty"` // of an embedding model's vectors
	Licence  Licence     `json:"licence"`
	Card     *File       `json:"card,omitempty"` // what evaluations found, Markdown
	Extra    []File      `json:"extra,omitempty"`
	Files    []File      `json:"files"` // what the engine is given
}

// Licence is the terms that a model comes under.
type Licence struct {
	Name  string `json:"name"`
	Terms bool   `json:"terms,omitempty"` // binds whoever uses the model: accepted before first use
	Text  File   `json:"text"`
}

// File is one file of a pack.
type File struct {
	Path   string        `json:"path"`         // in the tar
	As     string        `json:"as,omitempty"` // what the engine calls it; "" = the path's last element
	SHA256 models.Digest `json:"sha256"`
	Bytes  int64         `json:"bytes"`
}

func (f File) as() string {
	if f.As != "" {
		return f.As
	}
	return path.Base(f.Path)
}

// files lists a model's files in the order they have in the tar.
func (m Model) files() []File {
	list := []File{m.Licence.Text}
	if m.Card != nil {
		list = append(list, *m.Card)
	}
	return append(append(list, m.Extra...), m.Files...)
}

// Bytes is the size of all files of the pack.
func (m Manifest) Bytes() (sum int64) {
	for _, model := range m.Models {
		for _, f := range model.files() {
			sum += f.Bytes
		}
	}
	return sum
}

// encode is the manifest as it stands in a pack.
func (m Manifest) encode() ([]byte, error) {
	data, err := json.MarshalIndent(m, "", "  ")
	return append(data, '\n'), err
}

// decodeManifest reads and checks a manifest.
func decodeManifest(data []byte) (m Manifest, err error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&m); err != nil {
		return m, invalid("its manifest cannot be read (%v)", err)
	}
	return m, m.check()
}

var (
	nameForm    = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	versionForm = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+_-]{0,31}$`)
	digestForm  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func (m Manifest) check() error {
	switch {
	case m.Format != Format:
		return invalid("its format is %q and this version of Cloister reads %q", m.Format, Format)
	case !nameForm.MatchString(m.Name) || !versionForm.MatchString(m.Version):
		return invalid("its name or version is not well formed")
	case len(m.Models) == 0 || len(m.Models) > maxModels:
		return invalid("it holds %d models, and may hold 1 to %d", len(m.Models), maxModels)
	}
	paths, names := map[string]bool{manifestName: true, signatureName: true}, map[string]bool{}
	for _, model := range m.Models {
		if names[model.Name] {
			return invalid("it holds model %q twice", model.Name)
		}
		names[model.Name] = true
		if err := model.check(paths); err != nil {
			return err
		}
	}
	return nil
}

func (m Model) check(paths map[string]bool) error {
	switch {
	case !nameForm.MatchString(m.Name):
		return invalid("a model's name is not well formed")
	case m.Kind != models.Completion && m.Kind != models.Embedding:
		return invalid("model %q is of an unknown kind", m.Name)
	case len(m.Files) == 0 || len(m.files()) > maxFiles:
		return invalid("model %q has %d files", m.Name, len(m.files()))
	case m.Licence.Name == "" || !line(m.Licence.Name) || !line(m.About):
		return invalid("model %q does not say its licence", m.Name)
	case m.Licence.Text.Bytes > maxTextBytes || m.Card != nil && m.Card.Bytes > maxTextBytes:
		return invalid("model %q has a licence text or card of more than %d KiB", m.Name, maxTextBytes>>10)
	case m.Width < 0 || m.Width > 1<<16 || m.Kind == models.Embedding && m.Width == 0:
		return invalid("model %q does not say how long its vectors are", m.Name)
	}
	as := map[string]bool{}
	for _, f := range m.Files {
		if as[f.as()] || !cleanPath(f.as()) {
			return invalid("model %q has a file %q twice or in the wrong place", m.Name, f.as())
		}
		as[f.as()] = true
	}
	for _, f := range m.files() {
		if paths[f.Path] || !cleanPath(f.Path) {
			return invalid("file %q is named twice or leaves the pack", f.Path)
		}
		paths[f.Path] = true
		if !digestForm.MatchString(string(f.SHA256)) || f.Bytes < 0 || f.Bytes > maxFileBytes {
			return invalid("file %q has no proper hash or size", f.Path)
		}
	}
	return nil
}

// cleanPath says whether a path stays inside and is plain.
func cleanPath(p string) bool {
	return p != "" && len(p) <= 200 && line(p) && path.Clean(p) == p && !path.IsAbs(p) &&
		p != ".." && !strings.HasPrefix(p, "../") && !strings.Contains(p, `\`)
}

// line says whether a text is one printable line of reasonable length.
func line(s string) bool {
	if len(s) > 500 {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// invalid is an error about a pack or model file, in one sentence.
func invalid(format string, args ...any) error {
	return models.Fail(models.ErrInvalid, "this model cannot be imported: "+format, args...)
}

// signature is the content of manifest.sig.
type signature struct {
	Key       string `json:"key"`       // Ed25519 public key, base64
	Signature string `json:"signature"` // over signedBytes(manifest), base64
}

// signedBytes keeps a signature over a manifest from being one over anything else.
func signedBytes(manifest []byte) []byte {
	return append([]byte(Format+" manifest\n"), manifest...)
}

// sign makes the content of manifest.sig.
func sign(manifest []byte, key ed25519.PrivateKey) ([]byte, error) {
	return json.Marshal(signature{
		Key:       base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey)),
		Signature: base64.StdEncoding.EncodeToString(ed25519.Sign(key, signedBytes(manifest))),
	})
}

// verify returns who signed a manifest: the name of a trusted key, or "" when the
// key is not among them. A signature that does not fit is an error either way.
func verify(manifest, sig []byte, trusted map[string]ed25519.PublicKey) (string, error) {
	var s signature
	if err := json.Unmarshal(sig, &s); err != nil {
		return "", invalid("its signature cannot be read")
	}
	key, err1 := base64.StdEncoding.DecodeString(s.Key)
	raw, err2 := base64.StdEncoding.DecodeString(s.Signature)
	if err1 != nil || err2 != nil || len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, signedBytes(manifest), raw) {
		return "", invalid("its signature does not fit its manifest: get the pack again from whoever signed it")
	}
	for name, k := range trusted {
		if k.Equal(ed25519.PublicKey(key)) {
			return name, nil
		}
	}
	return "", nil
}
