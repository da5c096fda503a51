package seal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// gatherings are the two places where holders bring their shares to a command: a
// node that was stopped, and a backup of it.
func gatherings(t *testing.T, dir string, files map[string][]byte) map[string]*Gathering {
	t.Helper()
	stopped, err := GatherAt(dir)
	if err != nil || stopped == nil {
		t.Fatal(stopped, err)
	}
	backup, err := GatherFor(files)
	if err != nil || backup == nil {
		t.Fatal(backup, err)
	}
	return map[string]*Gathering{"a stopped node": stopped, "a backup": backup}
}

func backupFiles(t *testing.T, k *Keys) map[string][]byte {
	t.Helper()
	files, err := k.BackupFiles()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestWhatIsWrongWithAShareIsSaid(t *testing.T) {
	dir := t.TempDir()
	k := openAt(t, dir)
	shares := splitAt(t, dir, 3)
	foreign := splitAt(t, t.TempDir(), 3)
	typo := []byte(shares[2].Text)
	typo[len(typo)-3] ^= 1
	for name, g := range gatherings(t, dir, backupFiles(t, k)) {
		if err := g.Add(shares[0].Text); err != nil {
			t.Fatal(err)
		}
		for want, bad := range map[string]string{
			"is here already: 2 of the others":                                    " " + strings.ToUpper(shares[0].Text) + "\n",
			"of another split of a root key: those that count here were given to": foreign[1].Text,
			"mistyped":                   string(typo),
			"not whole":                  shares[1].Text[:60],
			"this is no share":           "open sesame",
			"begins with " + sharePrefix: "",
		} {
			err := g.Add(bad)
			if !errors.Is(err, ErrShare) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, %q: %v", name, want, err)
			}
		}
		if err := g.Add(shares[1].Text); err != nil {
			t.Fatal(err)
		}
		if _, err := g.root(); !errors.Is(err, ErrSeal) || !strings.Contains(err.Error(), "1 of the 3 shares that are needed are missing: they can come from Cy, Dee, Eve") {
			t.Errorf("%s, too few: %v", name, err)
		}
		if s := g.Status(); s.Missing != 1 || !s.Holders[0].Given || s.Holders[2].Given {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// TestAShareThatWasMadeUpIsRefused: its checksum and its split are right, its points
// are not.
func TestAShareThatWasMadeUpIsRefused(t *testing.T) {
	dir := t.TempDir()
	shares := splitAt(t, dir, 2)
	set, p, ok := parseShare(shares[0].Text)
	if !ok {
		t.Fatal("a share cannot be read")
	}
	p.Y = bytes.Clone(p.Y)
	p.Y[0] ^= 1
	g, err := GatherAt(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Add(shareText(set, p)); !errors.Is(err, ErrShare) || err.Error() != ErrShare.Error() {
		t.Errorf("got %v", err)
	}
}

// TestSharesOpenAStoppedNodeAndItsBackup: the same keys come out, and a seal that is
// rebuilt is one by the same shares, without a file that opens it.
func TestSharesOpenAStoppedNodeAndItsBackup(t *testing.T) {
	dir, bare := t.TempDir(), filepath.Join(t.TempDir(), "seal")
	k := openAt(t, dir)
	if g, err := GatherAt(dir); g != nil || err != nil {
		t.Errorf("a seal by a file: %v, %v", g, err)
	}
	if g, err := GatherFor(backupFiles(t, k)); g != nil || err != nil {
		t.Errorf("the backup of a seal by a file: %v, %v", g, err)
	}
	shares := splitAt(t, dir, 2)
	files := backupFiles(t, k)
	all := gatherings(t, dir, files)
	for _, g := range all {
		for _, n := range []int{4, 1} {
			if err := g.Add(shares[n].Text); err != nil {
				t.Fatal(err)
			}
		}
	}
	stopped, err := all["a stopped node"].Open()
	if err != nil || !bytes.Equal(stopped.Storage(), k.Storage()) {
		t.Fatalf("a stopped node: %v", err)
	}
	again, err := all["a backup"].Rebuild(bare, files)
	if err != nil || !bytes.Equal(again.Storage(), k.Storage()) || again.LogVerifierKey() != k.LogVerifierKey() {
		t.Fatalf("a backup: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(bare, rootFile)); err == nil {
		t.Error("the rebuilt seal has a file with the root key")
	}
	l := lockAt(t, bare)
	for _, n := range []int{0, 3} {
		if _, err := l.Offer(shares[n].Text); err != nil {
			t.Fatal(err)
		}
	}
	<-l.Opened()
	if _, err := all["a backup"].Rebuild(dir, files); err == nil || !strings.Contains(err.Error(), "holds the keys of a cluster already") {
		t.Errorf("over a seal: %v", err)
	}
	files[sharesFile] = []byte("{}")
	if _, err := GatherFor(files); !errors.Is(err, ErrSeal) {
		t.Errorf("a damaged file of shares: %v", err)
	}
	root, err := os.ReadFile(filepath.Join(dir, sharesFile))
	if err != nil || !bytes.Equal(root, all["a backup"].file) {
		t.Error("the backup's file of shares is not the node's")
	}
}
