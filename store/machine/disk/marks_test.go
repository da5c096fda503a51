package disk

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cloister-os/cloister/store/machine/kv"
)

func TestMarkSurvivesATornWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mark")
	m, err := openMarks(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(3) {
		if err := m.write(mark{Mark: kv.Mark{Index: 100 + i, State: i}}); err != nil {
			t.Fatal(err)
		}
	}
	m.close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	newest := int64(3) % 2 * slotBytes
	for _, c := range []struct {
		name  string
		spoil func([]byte)
		want  uint64
		fails bool
	}{
		{"whole", func([]byte) {}, 102, false},
		{"the newer torn", func(b []byte) { clear(b[newest+20 : newest+40]) }, 101, false},
		{"the newer gone", func(b []byte) { clear(b[newest : newest+slotBytes]) }, 101, false},
		{"both damaged", func(b []byte) { b[30]++; b[slotBytes+30]++ }, 0, true},
		{"never written", func(b []byte) { clear(b) }, 0, false},
	} {
		b := append([]byte(nil), whole...)
		c.spoil(b)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := openMarks(path)
		if c.fails != (err != nil) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil {
			if m.last.Index != c.want {
				t.Errorf("%s: mark %d, want %d", c.name, m.last.Index, c.want)
			}
			m.close()
		}
	}
}
