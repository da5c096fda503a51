package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

// TestARecordIsProvenUnderItsCheckpoint reads the proof's text as an auditor's
// tool does, and changes a byte of it.
func TestARecordIsProvenUnderItsCheckpoint(t *testing.T) {
	st := storetest.NewModel(nil)
	l := openLog(t, st, newKey(t, "a"))
	for i := range 11 {
		tx := store.NewTx()
		if err := Append(tx, Record{Kind: Event, Action: auth.Ask, Actor: Actor{Kind: auth.User, ID: fmt.Sprint(i)}, Resource: Resource{Type: "System", ID: "cloister"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := st.Apply(t.Context(), tx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Proof(t.Context(), 3); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("before the first checkpoint: %v", err)
	}
	c, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for seq := range c.Size {
		p, err := l.Proof(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		entry, err := l.Entry(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		head, note, _ := strings.Cut(p.Text(), "\n\n")
		lines := strings.Split(head, "\n")
		if lines[0] != "c2sp.org/tlog-proof@v1" || lines[1] != fmt.Sprintf("index %d", seq) || note != string(c.Note) {
			t.Fatalf("%s", p.Text())
		}
		var path tlog.RecordProof
		for _, line := range lines[2:] {
			b, err := base64.StdEncoding.DecodeString(line)
			if err != nil {
				t.Fatal(err)
			}
			path = append(path, tlog.Hash(b))
		}
		if err := tlog.CheckRecord(path, int64(c.Size), tlog.Hash(c.Root), int64(seq), tlog.RecordHash(entry.Leaf)); err != nil {
			t.Errorf("record %d: %v", seq, err)
		}
		other := slices.Clone(entry.Leaf)
		other[len(other)/2] ^= 1
		if tlog.CheckRecord(path, int64(c.Size), tlog.Hash(c.Root), int64(seq), tlog.RecordHash(other)) == nil {
			t.Errorf("record %d: another leaf is proven", seq)
		}
	}
	if _, err := l.Proof(t.Context(), c.Size); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("past the end: %v", err)
	}
}
