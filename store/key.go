package store

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// Key names a value. Its first byte chooses the database that holds it:
// 'S' (state: sessions, leases, counters, cursors, the configuration of the
// moment; only the last minutes of versions are kept) or 'H' (history: claims,
// memories, policies, agents, roles; every version inside the retention window
// is kept, so the past can be read). A key is at most MaxKeyBytes long.
type Key string

// Database says which of the two databases a key lives in.
type Database byte

// The two databases.
const (
	State   Database = 'S'
	History Database = 'H'
)

// Database reports where the key lives; ok is false for a key of neither.
func (k Key) Database() (db Database, ok bool) {
	if len(k) == 0 {
		return 0, false
	}
	db = Database(k[0])
	return db, db == State || db == History
}

// Space is a named family of keys in one database. Declare each as a package
// constant: `const claims store.Space = "H/claim/"`. By convention a space is
// the database's letter, a slash, the room's word, a slash.
type Space string

// Key builds a key of the space from parts. Parts are escaped so that keys sort
// by their parts in order and no part can imitate another: 0x00 becomes 0x00
// 0xFF, and each part ends with 0x00 0x01.
func (s Space) Key(parts ...string) Key {
	var b strings.Builder
	b.WriteString(string(s))
	for _, p := range parts {
		appendPart(&b, p)
	}
	return Key(b.String())
}

// Prefix is the prefix shared by every key that begins with these parts.
func (s Space) Prefix(parts ...string) Key { return s.Key(parts...) }

// Parts undoes Key. It returns false when the key is not of the space or is
// not well formed.
func (s Space) Parts(k Key) ([]string, bool) {
	rest, ok := strings.CutPrefix(string(k), string(s))
	if !ok {
		return nil, false
	}
	var parts []string
	for rest != "" {
		end := strings.Index(rest, "\x00\x01")
		if end < 0 {
			return nil, false
		}
		parts = append(parts, strings.ReplaceAll(rest[:end], "\x00\xff", "\x00"))
		rest = rest[end+2:]
	}
	return parts, true
}

func appendPart(b *strings.Builder, p string) {
	for {
		i := strings.IndexByte(p, 0)
		if i < 0 {
			break
		}
		b.WriteString(p[:i])
		b.WriteString("\x00\xff")
		p = p[i+1:]
	}
	b.WriteString(p)
	b.WriteString("\x00\x01")
}

// Number is a key part for an unsigned number; parts made by it sort by value.
func Number(n uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	return string(b[:])
}

// ParseNumber undoes Number.
func ParseNumber(part string) (uint64, bool) {
	if len(part) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64([]byte(part)), true
}

// After is the smallest key greater than every key with the prefix, for use as
// the end of a range. It is empty when there is none.
func (k Key) After() Key {
	b := bytes.Clone([]byte(k))
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return Key(b[:i+1])
		}
	}
	return ""
}
