package search_test

import (
	"bytes"
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/graph/answer/measure"
	"github.com/cloister-os/cloister/store/sealed"
)

// fixedRing is a ring by its active key.
type fixedRing uint32

func (r fixedRing) Active() (uint32, []byte) { k, _ := r.Key(uint32(r)); return uint32(r), k }

func (r fixedRing) Key(id uint32) ([]byte, bool) {
	k := sha256.Sum256([]byte{byte(id)})
	return k[:], id <= uint32(r)
}

// onDisk reports whether a file of the index holds a text, in any case of letters.
func (h *house) onDisk(text string) (found bool) {
	h.t.Helper()
	h.must(filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		found = found || bytes.Contains(bytes.ToLower(b), []byte(text))
		return err
	}))
	return found
}

// awaitFiles waits until the text index has been written to the disk.
func (h *house) awaitFiles() {
	h.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		zaps, err := filepath.Glob(filepath.Join(h.dir, "text", "*", "store", "*.zap"))
		h.must(err)
		if len(zaps) > 0 {
			return
		}
		if time.Now().After(end) {
			h.t.Fatal("the index was never written to the disk")
		}
	}
}

// TestNoWordOfWhatIsIndexedIsOnTheDisk looks for paths. The words of texts are in
// an automaton that no search for bytes finds them in, sealed or not.
func TestNoWordOfWhatIsIndexedIsOnTheDisk(t *testing.T) {
	for name, ring := range map[string]sealed.Ring{"plain": nil, "sealed": fixedRing(1)} {
		h := open(t, newHashEmbedder())
		h.stop()
		h.ring = ring
		h.must(os.RemoveAll(h.dir))
		h.start()
		h.docs("a", measure.File{Path: "secretfolder/zyzzyva.md", Body: "The qwertzuiop sleeps."})
		h.found(0, "qwertzuiop", "a")
		h.awaitVectors("a", 1)
		h.awaitFiles()
		h.stop()
		for _, word := range []string{"zyzzyva", "secretfolder"} {
			if got := h.onDisk(word); got != (ring == nil) {
				t.Errorf("%s: the files hold %q: %v", name, word, got)
			}
		}
		h.start()
		if got := h.found(0, "qwertzuiop", "a"); len(got) != 1 {
			t.Errorf("%s: after opening again: %q", name, got)
		}
	}
}

// TestTheIndexFollowsTheNodesKey changes the node's key while the index works,
// and takes the old key away.
func TestTheIndexFollowsTheNodesKey(t *testing.T) {
	h := open(t, newHashEmbedder())
	ring := &movingRing{now: 1}
	h.stop()
	h.ring = ring
	h.must(os.RemoveAll(h.dir))
	h.start()
	h.docs("a", measure.File{Path: "x.md", Body: "The heron sleeps."})
	h.awaitVectors("a", 1)
	h.awaitFiles()
	ring.now = 2
	h.must(h.Rekey(t.Context()))
	if ids, err := h.Keys(t.Context()); err != nil || len(ids) != 1 || ids[0] != 2 {
		t.Errorf("it needs %v, %v", ids, err)
	}
	ring.gone = 1
	h.docs("a", measure.File{Path: "y.md", Body: "The stork sleeps."})
	h.awaitVectors("a", 2)
	h.restart()
	if got := h.found(0, "heron stork", "a"); len(got) != 2 {
		t.Errorf("found %q", got)
	}
	if n := h.Index.Applied(); n == 0 {
		t.Error("it began anew")
	}
}

// movingRing is a ring whose active key moves and whose old ones go.
type movingRing struct{ now, gone uint32 }

func (r *movingRing) Active() (uint32, []byte) { return fixedRing(r.now).Active() }

func (r *movingRing) Key(id uint32) ([]byte, bool) {
	k, ok := fixedRing(r.now).Key(id)
	return k, ok && id > r.gone
}

func BenchmarkSearch(b *testing.B) {
	var files []measure.File
	for i := range 300 {
		files = append(files, measure.File{Path: "d" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + string(rune('a'+i/26)) + ".md",
			Body: strings.Repeat("The heron sleeps in the reeds of river "+string(rune('a'+i%26))+". ", 20)})
	}
	for name, ring := range map[string]sealed.Ring{"plain": nil, "sealed": fixedRing(1)} {
		h := open(b, nil)
		h.stop()
		h.ring = ring
		h.must(os.RemoveAll(h.dir))
		h.start()
		h.docs("a", files...)
		h.found(0, "heron", "a")
		h.awaitFiles()
		h.restart()
		b.Run("find/"+name, func(b *testing.B) {
			for b.Loop() {
				h.found(0, "heron reeds river", "a")
			}
		})
		b.Run("open/"+name, func(b *testing.B) {
			for b.Loop() {
				h.restart()
				h.found(0, "heron", "a")
			}
		})
	}
}
