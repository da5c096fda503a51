package seal

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var people = []string{"Ada", "Ben", "Cy", "Dee", "Eve"}

// splitAt makes the seal in dir one by shares and returns them.
func splitAt(t *testing.T, dir string, need int) []Share {
	t.Helper()
	k := openAt(t, dir)
	shares, err := k.Split(people, need)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, s := range shares[:need] {
		texts = append(texts, s.Text)
	}
	confirm(t, k, texts)
	return shares
}

func confirm(t *testing.T, k *Keys, texts []string) {
	t.Helper()
	file, err := k.Confirm(texts)
	if err == nil {
		err = k.Adopt(file)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func lockAt(t *testing.T, dir string) *Locked {
	t.Helper()
	l, err := Lock(dir)
	if err != nil || l == nil {
		t.Fatal(l, err)
	}
	return l
}

func TestSharesOpenTheSeal(t *testing.T) {
	dir := t.TempDir()
	before := openAt(t, dir)
	root := before.Storage()
	r := ringAt(t, before, "n")
	shares := splitAt(t, dir, 3)
	if _, err := os.Stat(filepath.Join(dir, rootFile)); err == nil {
		t.Fatal("the root key's file is still there")
	}
	if _, err := Open(dir); !errors.Is(err, ErrSeal) {
		t.Errorf("opened without shares: %v", err)
	}
	l := lockAt(t, dir)
	if s := l.Status(); !s.Sealed || s.Need != 3 || s.Missing != 3 || len(s.Holders) != 5 || s.Holders[1].Name != "Ben" {
		t.Errorf("%+v", s)
	}
	for i, n := range []int{4, 1, 4, 2} { // a share that comes twice counts once
		s, err := l.Offer("  " + strings.ToUpper(shares[n].Text) + "\n")
		if err != nil {
			t.Fatal(err)
		}
		want := []int{2, 1, 1, 0}[i]
		if s.Missing != want || !s.Holders[n].Given || s.Sealed != (want > 0) {
			t.Errorf("after share %d: %+v", n, s)
		}
	}
	<-l.Opened()
	if !bytes.Equal(l.Keys().Storage(), root) {
		t.Error("another root key came out")
	}
	again, err := l.Keys().Keyring("n", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, a := r.Active(); true {
		if _, b := again.Active(); !bytes.Equal(a, b) {
			t.Error("another data key")
		}
	}
	if names, need, shared := l.Keys().Shared(); !shared || need != 3 || len(names) != 5 {
		t.Error(names, need, shared)
	}
}

func TestAWrongShareIsOneSentence(t *testing.T) {
	dir := t.TempDir()
	shares := splitAt(t, dir, 2)
	foreign := splitAt(t, t.TempDir(), 2)
	l := lockAt(t, dir)
	typo := []byte(shares[0].Text)
	typo[len(typo)-3] ^= 1
	swapped := strings.Replace(shares[0].Text, shares[0].Text[30:34], shares[0].Text[35:39], 1)
	for name, bad := range map[string]string{
		"of another seal": foreign[0].Text, "empty": "", "noise": "open sesame", "a typing error": string(typo), "swapped groups": swapped,
		"cut": shares[0].Text[:40], "long": strings.Repeat("a", 10_000), "nothing after the prefix": sharePrefix,
	} {
		_, err := l.Offer(bad)
		if !errors.Is(err, ErrShare) || err.Error() != ErrShare.Error() {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s := l.Status(); s.Missing != 2 {
		t.Errorf("%+v", s)
	}
}

func TestWrongSharesAreBounded(t *testing.T) {
	dir := t.TempDir()
	shares := splitAt(t, dir, 2)
	synctest.Test(t, func(t *testing.T) {
		l := lockAt(t, dir)
		for range wrongShares {
			if _, err := l.Offer("wrong"); !errors.Is(err, ErrShare) {
				t.Fatal(err)
			}
		}
		var many *TooManyError
		if _, err := l.Offer(shares[0].Text); !errors.As(err, &many) || many.Wait > wrongWait {
			t.Errorf("after %d wrong ones: %v", wrongShares, err)
		}
		time.Sleep(wrongWait)
		if s, err := l.Offer(shares[0].Text); err != nil || s.Missing != 1 {
			t.Errorf("%+v %v", s, err)
		}
		time.Sleep(shareLife + time.Second)
		if s := l.Status(); s.Missing != 2 || s.Holders[0].Given {
			t.Errorf("a share was kept for ever: %+v", s)
		}
	})
}

func TestNothingChangesBeforeEnoughSharesAreConfirmed(t *testing.T) {
	dir := t.TempDir()
	k := openAt(t, dir)
	first, err := k.Split(people, 3)
	if err != nil {
		t.Fatal(err)
	}
	shares, err := k.Split(people, 3) // takes the place of the first
	if err != nil {
		t.Fatal(err)
	}
	for name, given := range map[string][]string{
		"none": nil, "too few": {shares[0].Text, shares[1].Text}, "one twice": {shares[0].Text, shares[1].Text, shares[1].Text},
		"of the first split": {first[0].Text, first[1].Text, first[2].Text}, "a wrong one": {shares[0].Text, shares[1].Text, "x"},
	} {
		if _, err := k.Confirm(given); err == nil {
			t.Errorf("%s: confirmed", name)
		}
	}
	if l, err := Lock(dir); l != nil || err != nil {
		t.Error("the seal is one by shares already", err)
	}
	openAt(t, dir)
	for name, c := range map[string]struct {
		people []string
		need   int
	}{
		"needs one": {people, 1}, "needs more than there are": {people, 6}, "nobody": {nil, 2}, "a name twice": {[]string{"A", "A"}, 2},
		"no name": {[]string{"A", ""}, 2}, "a name with a line": {[]string{"A", "B\nC"}, 2}, "too many": {make([]string, 21), 2},
	} {
		if _, err := k.Split(c.people, c.need); !errors.Is(err, ErrHolders) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAChangeIsAdoptedTwiceAtOnce: the node that makes a change adopts it, and hears
// of it from the store at the same moment.
func TestAChangeIsAdoptedTwiceAtOnce(t *testing.T) {
	dir := t.TempDir()
	k := openAt(t, dir)
	for range 20 {
		shares, err := k.Split(people, 2)
		if err != nil {
			t.Fatal(err)
		}
		file, err := k.Confirm([]string{shares[0].Text, shares[1].Text})
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range [][]byte{file, nil} {
			errs := make(chan error, 4)
			for range cap(errs) {
				go func() { errs <- k.Adopt(change) }()
			}
			for range cap(errs) {
				if err := <-errs; err != nil {
					t.Fatal(err)
				}
			}
			if _, _, shared := k.Shared(); shared != (change != nil) {
				t.Fatal("the seal is not what was adopted")
			}
		}
	}
}

// TestAKillWhileTheSealChanges leaves the folder as each step of the two changes
// would.
func TestAKillWhileTheSealChanges(t *testing.T) {
	opens := func(dir string, shares []Share) {
		t.Helper()
		l := lockAt(t, dir)
		for _, s := range shares[:2] {
			if _, err := l.Offer(s.Text); err != nil {
				t.Fatal(err)
			}
		}
		<-l.Opened()
	}
	dir := t.TempDir()
	k := openAt(t, dir)
	rootPath := filepath.Join(dir, rootFile)
	rootText, err := os.ReadFile(rootPath)
	if err != nil {
		t.Fatal(err)
	}
	shares, err := k.Split(people, 2)
	if err != nil {
		t.Fatal(err)
	}
	// The root key's file is renamed, but not yet overwritten or removed.
	if err := os.Rename(rootPath, filepath.Join(dir, goneFile)); err != nil {
		t.Fatal(err)
	}
	opens(dir, shares)
	if _, err := os.Stat(filepath.Join(dir, goneFile)); err == nil {
		t.Error("the root key still lies there")
	}
	// It is removed, and the pending file has not its name yet.
	opens(dir, shares)
	l := lockAt(t, dir)
	for _, s := range shares[3:] {
		if _, err := l.Offer(s.Text); err != nil {
			t.Fatal(err)
		}
	}
	confirm(t, l.Keys(), []string{shares[0].Text, shares[4].Text})
	opens(dir, shares)
	// Back to a file: the key is written, and the shares are not yet removed.
	if err := os.WriteFile(rootPath, rootText, 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Lock(dir); l != nil || err != nil {
		t.Error("it waits for shares beside a root key", err)
	}
	if _, _, shared := openAt(t, dir).Shared(); shared {
		t.Error("it says that it is by shares")
	}
}

func TestTheOtherNodesAdoptTheSeal(t *testing.T) {
	dir, other := t.TempDir(), filepath.Join(t.TempDir(), "seal")
	k := openAt(t, dir)
	packed, err := k.Handover()
	if err != nil {
		t.Fatal(err)
	}
	if err := Receive(other, packed); err != nil {
		t.Fatal(err)
	}
	o := openAt(t, other)
	shares := splitAt(t, dir, 2)
	file, err := os.ReadFile(filepath.Join(dir, sharesFile))
	if err != nil {
		t.Fatal(err)
	}
	var c sharesContent
	if err := json.Unmarshal(file, &c); err != nil {
		t.Fatal(err)
	}
	c.Need = 4
	forged, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{"changed": forged, "noise": []byte("x")} {
		if err := o.Adopt(bad); !errors.Is(err, ErrSeal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	openAt(t, other)
	for range 2 {
		if err := o.Adopt(file); err != nil {
			t.Fatal(err)
		}
	}
	l := lockAt(t, other)
	for _, s := range shares[1:3] {
		if _, err := l.Offer(s.Text); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Keys().Adopt(nil); err != nil {
		t.Fatal(err)
	}
	openAt(t, other)
}

func TestADamagedFileOfSharesIsSaidToBe(t *testing.T) {
	dir := t.TempDir()
	shares := splitAt(t, dir, 2)
	path := filepath.Join(dir, sharesFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, good[:len(good)/2], bytes.Replace(good, []byte(`"need": 2`), []byte(`"need": 1`), 1)} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Lock(dir); !errors.Is(err, ErrSeal) || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%v", err)
		}
	}
	renamed := bytes.Replace(good, []byte("Ada"), []byte("Bad"), 1)
	if err := os.WriteFile(path, renamed, 0o600); err != nil {
		t.Fatal(err)
	}
	l := lockAt(t, dir)
	if _, err := l.Offer(shares[0].Text); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Offer(shares[1].Text); !errors.Is(err, ErrSeal) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a holder's name was changed: %v", err)
	}
}
