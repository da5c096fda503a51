package seal

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestARecoveryKeyOpensTheRootKey(t *testing.T) {
	dir := t.TempDir()
	k, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	secret, public, err := NewRecoveryKey()
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := NewRecoveryKey()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := k.SealRoot(public)
	if err != nil {
		t.Fatal(err)
	}
	root, err := OpenRoot(secret, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if want, err := os.ReadFile(filepath.Join(dir, rootFile)); err != nil || !bytes.Equal(root, want) {
		t.Errorf("got another root key (%v)", err)
	}
	if bytes.Contains(sealed, bytes.TrimPrefix(bytes.TrimSpace(root), []byte(rootPrefix))) {
		t.Error("the root key stands in clear")
	}
	for name, open := range map[string]func() error{
		"another recovery key": func() error { _, err := OpenRoot(other, sealed); return err },
		"the public half":      func() error { _, err := OpenRoot(public, sealed); return err },
		"a changed byte":       func() error { b := bytes.Clone(sealed); b[40] ^= 1; _, err := OpenRoot(secret, b); return err },
		"nothing sealed":       func() error { _, err := OpenRoot(secret, nil); return err },
		"a bad public key":     func() error { _, err := k.SealRoot(strings.TrimSpace(secret)); return err },
	} {
		if err := open(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if err := CheckRecoveryKey(public); err != nil {
		t.Error(err)
	}
}

func TestASealIsRebuiltFromABackup(t *testing.T) {
	dir := t.TempDir()
	k, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	files, err := k.BackupFiles()
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.ReadFile(filepath.Join(dir, rootFile))
	if err != nil {
		t.Fatal(err)
	}
	again, err := Rebuild(filepath.Join(t.TempDir(), "seal"), root, files)
	if err != nil || again.LogVerifierKey() != k.LogVerifierKey() {
		t.Fatalf("rebuilt %v", err)
	}
	if !again.Cosigner("a").Equal(k.Cosigner("a")) || again.Cosigner("a").Equal(k.Cosigner("b")) {
		t.Error("the cosigners' keys differ, or do not")
	}
	strange := t.TempDir()
	if _, err := Open(strange); err != nil {
		t.Fatal(err)
	}
	wrong, err := os.ReadFile(filepath.Join(strange, rootFile))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Rebuild(filepath.Join(t.TempDir(), "seal"), wrong, files); err == nil || !strings.Contains(err.Error(), "does not open this backup") {
		t.Errorf("another root key: %v", err)
	}
	if _, err := Rebuild(dir, root, files); err == nil {
		t.Error("a seal was written over")
	}
	delete(files, logFile)
	if _, err := Rebuild(filepath.Join(t.TempDir(), "seal"), root, files); err == nil {
		t.Error("a backup without the log key makes a seal")
	}
}
