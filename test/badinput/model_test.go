package badinput

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/models/pack"
)

// smallPack is a pack that is as it should be, but for its weights, which are no model.
func smallPack(t *testing.T) []byte {
	t.Helper()
	contents := map[string][]byte{"LICENCE": []byte("Do as you like.\n"), "model.gguf": bytes.Repeat([]byte("weights "), 4096)}
	file := func(name string) pack.File {
		sum := sha256.Sum256(contents[name])
		return pack.File{Path: name, SHA256: models.Digest(hex.EncodeToString(sum[:])), Bytes: int64(len(contents[name]))}
	}
	var out bytes.Buffer
	_, err := pack.Build(&out, pack.Manifest{Format: pack.Format, Name: "small", Version: "1", Models: []pack.Model{{
		Name: "small", Kind: models.Completion, About: "A test.", Licence: pack.Licence{Name: "none", Text: file("LICENCE")}, Files: []pack.File{file("model.gguf")},
	}}}, nil, func(f pack.File) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(contents[f.Path])), nil })
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestAModelThatIsNone(t *testing.T) {
	t.Parallel()
	n := ready(t)
	good := smallPack(t)
	spoiled := bytes.Replace(good, []byte("weights weights"), []byte("weights Weights"), 1)
	licence := bytes.Replace(good, []byte("Do as you like"), []byte("Do as I  like "), 1)
	header := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32([]byte("GGUF"), 3), 1<<40), 1<<40)
	for _, c := range []struct {
		name, content string
		words         []string
	}{
		{"magic.gguf", "GGUF", []string{"cut short"}},
		{"cut.gguf", "GGUF\x03\x00\x00\x00\x01\x00", []string{"cut short"}},
		{"bomb.gguf", string(header), nil},
		{"none.pack", "this is a letter", nil},
		{"zip.pack", "PK\x03\x04" + strings.Repeat("\x00", 600), nil},
		{"short.pack", string(good[:len(good)/2]), []string{"cut short"}},
		{"spoiled.pack", string(spoiled), []string{"sha-256"}},
		{"licence.pack", string(licence), []string{"sha-256"}},
		{"weights.pack", string(good), nil}, // its hashes are right, and it is no model
		{"empty.pack", "", []string{"empty"}},
	} {
		path := n.file(c.name, c.content)
		n.wrong([]string{"model", "import", path, "--name", "small"}, c.words...)
		n.wrong([]string{"model", "import", path, "--on-node", "--name", "small"})
	}
	n.wrong([]string{"model", "import", n.home}, "not a file")
	n.wrong([]string{"model", "import", n.home + "/none.pack"}, "no such file")
	n.wrong([]string{"model", "import", n.home + "/none.pack", "--on-node"}, "none.pack")
	n.wrong([]string{"model", "remove", "none"}, "none")
	n.wrong([]string{"model", "licence", "none"}, "none")
	n.wrong([]string{"model", "accept", "none"}, "none")
	n.wrong([]string{"model", "remove", "../../x"})
	if out := strings.TrimSpace(n.ok("model", "list", "--json")); out != "[]" {
		t.Errorf("models are there: %s", out)
	}
	for _, left := range []string{"tmp/uploads", "engine/models/blobs", "engine/partial"} {
		if list, err := os.ReadDir(filepath.Join(n.data, left)); err != nil || len(list) > 0 {
			t.Errorf("%s holds %d files of models that are not there (%v)", left, len(list), err)
		}
	}
}

func TestAnInterruptedUploadGoesOn(t *testing.T) {
	t.Parallel()
	n := ready(t)
	path := n.file("big.gguf", "GGUF"+strings.Repeat("0123456789abcdef", 1<<20))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(whole)
	route := "/api/v1/uploads/" + hex.EncodeToString(sum[:])
	h := bearer(n.token())
	const cut = 5 << 20
	// The connection ends in the middle of a chunk.
	r, w := io.Pipe()
	go func() {
		_, _ = w.Write(whole[:cut])
		w.CloseWithError(fmt.Errorf("the cable was pulled"))
	}()
	_, _ = n.try("PUT", route+"?offset=0", r, h...)
	offset := func() (have int64) {
		var u struct{ Offset int64 }
		if err := json.Unmarshal([]byte(n.send("GET", route, nil, h...).body), &u); err != nil {
			t.Fatal(err)
		}
		return u.Offset
	}
	var have int64
	eventually(t, "what came is kept", func() error {
		if have = offset(); have == 0 {
			return fmt.Errorf("nothing is there")
		}
		if a := n.send("PUT", fmt.Sprintf("%s?offset=%d", route, have), bytes.NewReader(nil), h...); a.status == 409 {
			return fmt.Errorf("%s", a.body) // the first request still writes
		}
		return nil
	})
	if have = offset(); have > cut {
		t.Fatalf("%d bytes are there of %d sent", have, cut)
	}
	n.send("PUT", route+"?offset=7", strings.NewReader("x"), h...).isProblem(t, "bytes for the middle", 409, fmt.Sprintf("from byte %d on", have))
	n.kill()
	n.start()
	if now := offset(); now != have {
		t.Fatalf("%d bytes are there after a kill, %d were", now, have)
	}
	// The shell sends the rest; that it is no model is told at its end, so all of it came.
	n.wrong([]string{"model", "import", path}, "cannot be imported")
	if out := n.audit("--action", "model.manage"); !strings.Contains(out, `"bytes"`) {
		t.Errorf("the upload is not on record: %.500s", out)
	}
}
