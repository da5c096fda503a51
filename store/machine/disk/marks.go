package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/cloister-os/cloister/store/machine/kv"
)

// mark is the durable mark and what repair needs beside it.
type mark struct {
	kv.Mark
	tables [2][]uint64 // level-0 tables whose files are on disk by name
}

// marks is the file with the durable mark: two slots written in turn, each with
// a count and a checksum, so that a torn write costs the newer mark only.
type marks struct {
	file  *os.File
	last  mark
	count uint64
}

const (
	markMagic = "cloistermark 1\n\x00"
	slotBytes = 4096 // a slot is never torn together with the other
	// maxTables bounds the tables of level 0 that a mark vouches for; Badger
	// stalls its writers at fewer.
	maxTables = 32
	slotUsed  = len(markMagic) + (4+2*(1+maxTables))*8 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func openMarks(path string) (*marks, error) {
	if err := MakeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the durable mark: %w", err)
	}
	m := &marks{file: f}
	buf := make([]byte, 2*slotBytes)
	n, err := f.ReadAt(buf, 0)
	if n == 0 {
		return m, nil
	}
	if n < len(buf) {
		return nil, errors.Join(fmt.Errorf("the durable mark %s is cut short: %w", path, err), f.Close())
	}
	found := false
	for _, slot := range [][]byte{buf[:slotUsed], buf[slotBytes : slotBytes+slotUsed]} {
		if v, count, ok := decodeMark(slot); ok && count > m.count {
			m.last, m.count, found = v, count, true
		}
	}
	if !found && bytes.ContainsFunc(buf, func(r rune) bool { return r != 0 }) {
		return nil, errors.Join(fmt.Errorf("the durable mark %s is damaged: restore a backup", path), f.Close())
	}
	return m, nil
}

func decodeMark(b []byte) (v mark, count uint64, ok bool) {
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if !bytes.HasPrefix(b, []byte(markMagic)) || crc32.Checksum(body, castagnoli) != sum {
		return mark{}, 0, false
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(b[len(markMagic)+8*i:]) }
	v.Mark = kv.Mark{Index: n(1), State: n(2), History: n(3)}
	for db := range v.tables {
		first := 4 + db*(1+maxTables)
		for i := range min(int(n(first)), maxTables) {
			v.tables[db] = append(v.tables[db], n(first+1+i))
		}
	}
	return v, n(0), true
}

// write makes the mark durable.
func (m *marks) write(v mark) error {
	b := append(make([]byte, 0, slotBytes), markMagic...)
	for _, n := range []uint64{m.count + 1, v.Index, v.State, v.History} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	for _, t := range v.tables {
		t = t[:min(len(t), maxTables)]
		b = binary.BigEndian.AppendUint64(b, uint64(len(t)))
		for _, id := range t {
			b = binary.BigEndian.AppendUint64(b, id)
		}
		b = append(b, make([]byte, 8*(maxTables-len(t)))...)
	}
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	b = b[:slotBytes]
	first := m.count == 0
	at := int64(m.count+1) % 2 * slotBytes
	if first { // the file is created whole
		if err := m.file.Truncate(2 * slotBytes); err != nil {
			return fmt.Errorf("write the durable mark: %w", err)
		}
	}
	if _, err := m.file.WriteAt(b, at); err != nil {
		return fmt.Errorf("write the durable mark: %w", err)
	}
	if err := m.file.Sync(); err != nil {
		return fmt.Errorf("sync the durable mark: %w", err)
	}
	if first {
		if err := syncDir(filepath.Dir(m.file.Name())); err != nil {
			return err
		}
	}
	m.last, m.count = v, m.count+1
	return nil
}

func (m *marks) close() error { return m.file.Close() }
