package graph

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cloister-os/cloister/store"
)

// Source is a system that context comes from.
type Source struct {
	V        uint     `cbor:"0,keyasint" json:"-"`
	Name     string   `cbor:"1,keyasint" json:"name"`
	Kind     string   `cbor:"2,keyasint" json:"kind"`               // the connector: "git", "files"
	Path     string   `cbor:"3,keyasint" json:"path"`               // absolute, on the node
	Audience []string `cbor:"4,keyasint,omitempty" json:"audience"` // who may read it, see CheckAudience; empty = whoever the policies let
	AddedNs  int64    `cbor:"5,keyasint" json:"-"`
	AddedBy  string   `cbor:"6,keyasint" json:"added_by"` // a principal's id
	Removing bool     `cbor:"7,keyasint,omitempty" json:"removing,omitempty"`
	Node     string   `cbor:"8,keyasint,omitempty" json:"node,omitempty"` // whose machine has the path; "" = any can read it

	Version store.Version `cbor:"-" json:"-"`
}

// Added is when the source was added.
func (s Source) Added() time.Time { return time.Unix(0, s.AddedNs).UTC() }

const sourceV = 1

// MaxSourceNameBytes bounds a source's name.
const MaxSourceNameBytes = 64

// CheckSourceName says in one sentence what is wrong with a source's name.
func CheckSourceName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("a source needs a name: %w", store.ErrInvalid)
	case len(name) > MaxSourceNameBytes:
		return fmt.Errorf("a source's name has at most %d bytes, this one has %d: %w", MaxSourceNameBytes, len(name), store.ErrInvalid)
	case !utf8.ValidString(name):
		return fmt.Errorf("the source's name %q is not valid UTF-8: %w", name, store.ErrInvalid)
	}
	for _, r := range name {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_.", r) {
			return fmt.Errorf("the source's name %q holds %q: use letters, digits, '-', '_' and '.': %w", name, r, store.ErrInvalid)
		}
	}
	if name[0] == '.' || name[0] == '-' {
		return fmt.Errorf("the source's name %q must begin with a letter or a digit: %w", name, store.ErrInvalid)
	}
	return nil
}

// Watermark says how fresh a source is: everything that was in the system at
// AsOf has been read. Only a scan that completed moves it. It lives in the
// history database, so that an answer about the past can say how fresh it was.
type Watermark struct {
	V      uint  `cbor:"0,keyasint" json:"-"`
	AsOfNs int64 `cbor:"1,keyasint" json:"-"`

	Source  string        `cbor:"-" json:"source"`
	Version store.Version `cbor:"-" json:"-"`
}

// AsOf is the time that the completed scan began, UTC.
func (w Watermark) AsOf() time.Time { return time.Unix(0, w.AsOfNs).UTC() }
