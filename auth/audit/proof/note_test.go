package proof

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestANoteIsOpenedByTheKeyNoted(t *testing.T) {
	l, thief := newLog(t, 0), newKey(t, "x")
	keys, err := json.Marshal(l.keys)
	if err != nil {
		t.Fatal(err)
	}
	msg := l.sign("a text\n")
	if text, err := OpenNote(msg, keys, l.key.print); err != nil || text != "a text\n" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := OpenNote(msg, keys, thief.print); !OtherLog(err) {
		t.Errorf("another fingerprint: %v", err)
	}
	for i := range msg {
		changed := bytes.Clone(msg)
		changed[i] ^= 1
		if _, err := OpenNote(changed, keys, l.key.print); err == nil {
			t.Errorf("byte %d may change", i)
		}
	}
	if _, err := OpenNote(msg, []byte("nonsense"), l.key.print); err == nil || OtherLog(err) {
		t.Errorf("no keys: %v", err)
	}
}
