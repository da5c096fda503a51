package proof

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	formatLine       = "cloister-bundle/v1"
	maxManifestBytes = 64 << 20
)

// manifest says what the bundle holds. Its text is signed by the log key that
// signed the checkpoint:
//
//	cloister-bundle/v1
//	<origin>
//	epoch <n> [<id>]
//	records <from> <to>
//	<SHA-256 in hex> <bytes> <name>     one line a file, in the bundle's order
type manifest struct {
	origin   string
	epoch    uint64
	epochID  string
	from, to uint64
	files    []sum
}

// sum is what a file must be.
type sum struct {
	hash [sha256.Size]byte
	size int64
	name string
}

func (m *manifest) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\nepoch %s\nrecords %d %d\n", formatLine, m.origin, epochName(m.epoch, m.epochID), m.from, m.to)
	for _, f := range m.files {
		fmt.Fprintf(&b, "%x %d %s\n", f.hash, f.size, f.name)
	}
	return b.String()
}

var errManifest = errors.New("the manifest is malformed")

// parseManifest accepts only what text writes.
func parseManifest(text string) (*manifest, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) < 4 {
		return nil, errManifest
	}
	if lines[0] != formatLine {
		return nil, fmt.Errorf("the bundle's format is %.40q and this program knows %q: use a newer cloister-verify", lines[0], formatLine)
	}
	m := &manifest{origin: lines[1]}
	var err error
	if m.epoch, m.epochID, err = parseEpochName(strings.TrimPrefix(lines[2], "epoch ")); err != nil {
		return nil, errManifest
	}
	from, to, _ := strings.Cut(strings.TrimPrefix(lines[3], "records "), " ")
	var err1, err2 error
	m.from, err1 = strconv.ParseUint(from, 10, 63)
	m.to, err2 = strconv.ParseUint(to, 10, 63)
	if err1 != nil || err2 != nil || m.from > m.to {
		return nil, errManifest
	}
	for _, line := range lines[4:] {
		f := strings.Split(line, " ")
		if len(f) != 3 {
			return nil, errManifest
		}
		s := sum{name: f[2]}
		hash, err1 := hex.DecodeString(f[0])
		s.size, err2 = strconv.ParseInt(f[1], 10, 64)
		if err1 != nil || err2 != nil || len(hash) != sha256.Size {
			return nil, errManifest
		}
		copy(s.hash[:], hash)
		m.files = append(m.files, s)
	}
	if m.text() != text {
		return nil, errManifest
	}
	return m, nil
}

// of returns what the named file must be.
func (m *manifest) of(name string) (sum, bool) {
	for _, f := range m.files {
		if f.name == name {
			return f, true
		}
	}
	return sum{}, false
}
