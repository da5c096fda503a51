package seal

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"
)

func TestAJoinedNodeHasTheClustersKeys(t *testing.T) {
	a := openAt(t, t.TempDir())
	packed, err := a.Handover()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "seal")
	if err := Receive(dir, packed); err != nil {
		t.Fatal(err)
	}
	b := openAt(t, dir)
	caA, err := a.CA()
	if err != nil {
		t.Fatal(err)
	}
	caB, err := b.CA()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Storage(), b.Storage()) || a.LogVerifierKey() != b.LogVerifierKey() || caA.Fingerprint() != caB.Fingerprint() {
		t.Error("the joined node has other keys")
	}
	if err := Receive(dir, packed); !errors.Is(err, ErrSeal) {
		t.Errorf("over keys that are there: %v", err)
	}
	for name, bad := range map[string][]byte{"empty": {}, "cut": packed[:len(packed)/2], "noise": []byte("hello")} {
		if err := Receive(filepath.Join(t.TempDir(), "seal"), bad); !errors.Is(err, ErrSeal) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
