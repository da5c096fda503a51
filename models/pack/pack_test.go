package pack

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/models/engine/enginetest"
	"github.com/cloister-os/cloister/models/modelstest"
)

// contents are a pack's files by path.
type contents map[string]string

func (c contents) file(path string) File {
	sum := sha256.Sum256([]byte(c[path]))
	return File{Path: path, SHA256: models.Digest(hex.EncodeToString(sum[:])), Bytes: int64(len(c[path]))}
}

func (c contents) open(f File) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(c[f.Path])), nil
}

// sample is a pack of two models.
func sample() (Manifest, contents) {
	c := contents{
		"licence/a.txt": "the terms of a", "licence/b.txt": "the licence of b", "card/a.md": "# a",
		"models/a.gguf": strings.Repeat("weights of a ", 5000), "models/b/model.safetensors": strings.Repeat("weights of b ", 5000),
		"models/b/pool/config.json": "{}",
	}
	card := c.file("card/a.md")
	deep := c.file("models/b/pool/config.json")
	deep.As = "pool/config.json"
	return Manifest{
		Format: Format, Name: "sample", Version: "1.0", About: "two models",
		Models: []Model{
			{Name: "a", Kind: models.Completion, About: "a completes", Licence: Licence{Name: "Terms of A", Terms: true, Text: c.file("licence/a.txt")},
				Card: &card, Template: Transcript, Files: []File{c.file("models/a.gguf")}},
			{Name: "b", Kind: models.Embedding, About: "b embeds", Width: 16, Licence: Licence{Name: "MIT", Text: c.file("licence/b.txt")},
				Files: []File{c.file("models/b/model.safetensors"), deep}},
		},
	}, c
}

func build(t *testing.T, m Manifest, c contents, key ed25519.PrivateKey) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := Build(&out, m, key, c.open); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// desk is a service over an engine in memory.
type desk struct {
	*Service
	engine *modelstest.Engine
	house  *guardtest.House
	temp   string
}

func open(t *testing.T, change func(*Config)) *desk {
	t.Helper()
	d := &desk{engine: &modelstest.Engine{}, house: guardtest.Open(t, nil), temp: filepath.Join(t.TempDir(), "tmp")}
	c := Config{Store: d.house.Store, Guard: d.house.Guard, Engine: d.engine, Temp: d.temp, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&c)
	}
	var err error
	if d.Service, err = New(c); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) stream(t *testing.T, data []byte, o Options) (Result, error) {
	t.Helper()
	return d.Import(t.Context(), guardtest.Admin(), Source{Reader: bytes.NewReader(data), Bytes: int64(len(data))}, o)
}

func (d *desk) file(t *testing.T, data []byte, o Options) (Result, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "Some Model.gguf")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return d.Import(t.Context(), guardtest.Admin(), Source{Path: path}, o)
}

// empty fails the test when an import has left anything.
func (d *desk) empty(t *testing.T) {
	t.Helper()
	blobs, partial := d.engine.Left()
	held, _ := d.engine.List(t.Context())
	entries, err := d.List(t.Context(), guardtest.Admin())
	routes, _ := d.Routes(t.Context(), guardtest.Admin())
	temp, _ := os.ReadDir(d.temp)
	if err != nil || blobs+partial+len(held)+len(entries)+len(routes)+len(temp) > 0 {
		t.Errorf("left behind: %d blobs, %d partial, models %v, entries %v, routes %v, files %v (%v)", blobs, partial, held, entries, routes, temp, err)
	}
}

// oneSentence fails the test unless an error is one line that fits a shell.
func oneSentence(t *testing.T, err error, holds string) {
	t.Helper()
	if err == nil || strings.ContainsAny(err.Error(), "\n\r") || !strings.Contains(err.Error(), holds) || len(err.Error()) > 400 {
		t.Errorf("error %q should be one sentence with %q", err, holds)
	}
}

func TestTheSameContentMakesTheSameBytes(t *testing.T) {
	m, c := sample()
	first, second := build(t, m, c, nil), build(t, m, c, nil)
	if !bytes.Equal(first, second) {
		t.Fatal("two builds differ")
	}
}

func TestBuildRefusesAFileThatDiffers(t *testing.T) {
	m, c := sample()
	c["models/a.gguf"] += "!"
	if _, err := Build(io.Discard, m, nil, c.open); err == nil {
		t.Fatal("a file that is not what the manifest says was packed")
	}
}

func TestAnImportEntersEveryModelOfThePack(t *testing.T) {
	for _, way := range []string{"path", "stream"} {
		t.Run(way, func(t *testing.T) {
			d := open(t, nil)
			m, c := sample()
			data := build(t, m, c, nil)
			var done, total int64
			o := Options{AcceptTerms: true, Progress: func(n, of int64) {
				if n < done {
					t.Errorf("progress went from %d to %d", done, n)
				}
				done, total = n, of
			}}
			run := d.stream
			if way == "path" {
				run = d.file
			}
			res, err := run(t, data, o)
			if err != nil {
				t.Fatal(err)
			}
			if res.Pack != "sample 1.0" || res.Trust != byHash || len(res.Models) != 2 || done != total || total != m.Bytes() {
				t.Errorf("result %+v, progress %d of %d", res, done, total)
			}
			a, text, err := d.Licence(t.Context(), guardtest.Admin(), "a")
			if err != nil || text != "the terms of a" || a.Card != "# a" || a.Accepted != guardtest.Admin().ID || a.Bytes != 65000 {
				t.Errorf("model a %+v, licence %q, %v", a, text, err)
			}
			spec, ok := d.engine.Spec("b")
			if !ok || len(spec.Files) != 2 || spec.Files["pool/config.json"] == "" || spec.Licence != "the licence of b" {
				t.Errorf("model b was made of %+v", spec)
			}
			if err := d.Remove(t.Context(), guardtest.Admin(), "a"); err != nil {
				t.Fatal(err)
			}
			if err := d.Remove(t.Context(), guardtest.Admin(), "b"); err != nil {
				t.Fatal(err)
			}
			d.empty(t)
		})
	}
}

func TestImportingAgainTakesNothingTwice(t *testing.T) {
	d := open(t, nil)
	m, c := sample()
	data := build(t, m, c, nil)
	if _, err := d.stream(t, data, Options{}); err != nil {
		t.Fatal(err)
	}
	d.engine.CreateErr = func(models.Spec) error { return errors.New("made again") }
	res, err := d.stream(t, data, Options{AcceptTerms: true})
	if err != nil || len(res.Models) != 2 || !res.Models[0].Usable() {
		t.Fatalf("the same pack again, with its terms accepted: %+v, %v", res, err)
	}
	c["models/a.gguf"] = "other weights"
	m.Models[0].Files[0] = c.file("models/a.gguf")
	if _, err := d.stream(t, build(t, m, c, nil), Options{}); err == nil || !strings.Contains(err.Error(), "made again") {
		t.Fatalf("a pack with another model of the name: %v", err)
	}
}

func TestTermsAreAcceptedBySomebody(t *testing.T) {
	d := open(t, nil)
	m, c := sample()
	res, err := d.stream(t, build(t, m, c, nil), Options{})
	if err != nil || res.Models[0].Usable() || !res.Models[1].Usable() {
		t.Fatalf("imported without accepting: %+v, %v", res, err)
	}
	if err := d.Accept(t.Context(), guardtest.Asker(), "a"); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("a person without the right accepts: %v", err)
	}
	if err := d.Accept(t.Context(), guardtest.Admin(), "a"); err != nil {
		t.Fatal(err)
	}
	if a, _, _ := d.Licence(t.Context(), guardtest.Admin(), "a"); !a.Usable() {
		t.Errorf("after accepting: %+v", a)
	}
}

func TestSignaturesVouch(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	m, c := sample()
	signed, unsigned := build(t, m, c, private), build(t, m, c, nil)
	trusting := open(t, func(c *Config) {
		c.Trusted, c.RequireSigned = map[string]ed25519.PublicKey{"the maker": public}, true
	})
	if res, err := trusting.stream(t, signed, Options{}); err != nil || res.Trust != "signed by the maker" {
		t.Errorf("signed by a trusted key: %+v, %v", res, err)
	}
	for name, data := range map[string][]byte{
		"unsigned": unsigned,
		"changed":  bytes.Replace(signed, []byte("two models"), []byte("2,0 models"), 1),
	} {
		d := open(t, func(c *Config) {
			c.Trusted, c.RequireSigned = map[string]ed25519.PublicKey{"the maker": public}, true
		})
		if _, err := d.stream(t, data, Options{}); err == nil {
			t.Errorf("%s: taken", name)
		}
		d.empty(t)
	}
	stranger := open(t, func(c *Config) { c.RequireSigned = true })
	if _, err := stranger.stream(t, signed, Options{}); err == nil {
		t.Error("signed by a key that nobody trusts: taken")
	}
}

// rebuilt writes a pack by hand, for what Build refuses to write.
func rebuilt(t *testing.T, manifest []byte, files ...[2]string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range append([][2]string{{manifestName, string(manifest)}}, files...) {
		if err := writeBytes(w, f[0], []byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestABadPackLeavesNothing(t *testing.T) {
	m, c := sample()
	good := build(t, m, c, nil)
	manifest, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	flip := bytes.Clone(good)
	flip[bytes.LastIndex(good, []byte("weights of b"))+3] ^= 1
	cases := []struct {
		name string
		data []byte
		says string
	}{
		{"nothing", nil, "neither a pack nor a GGUF file"},
		{"a text", []byte(strings.Repeat("hello ", 200)), "neither a pack nor a GGUF file"},
		{"another tar", rebuilt(t, nil, [2]string{"x", "y"})[512:], "begin with a manifest.json"},
		{"a manifest that is no JSON", rebuilt(t, []byte("{")), "manifest cannot be read"},
		{"another format", rebuilt(t, bytes.Replace(manifest, []byte(Format), []byte("cloister-pack/9"), 1)), "cloister-pack/9"},
		{"a path that leaves", rebuilt(t, bytes.Replace(manifest, []byte("models/a.gguf"), []byte("../../a.gguf"), 1)), "leaves the pack"},
		{"a name with control characters", rebuilt(t, bytes.Replace(manifest, []byte(`"name": "a"`), []byte(`"name": "a\u0007"`), 1)), "name is not well formed"},
		{"one byte changed", flip, "SHA-256"},
		{"cut short", good[:len(good)-70_000], "cut short"},
		{"a file missing", rebuilt(t, manifest, [2]string{"licence/a.txt", c["licence/a.txt"]}), "cut short"},
		{"files out of order", rebuilt(t, manifest, [2]string{"models/a.gguf", c["models/a.gguf"]}), "stands where"},
		{"more than it says", rebuiltWithMore(t, m, c, manifest), "more in it"},
	}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			d := open(t, nil)
			_, err := d.file(t, k.data, Options{})
			oneSentence(t, err, k.says)
			if !errors.Is(err, models.ErrInvalid) {
				t.Errorf("%v is not models.ErrInvalid", err)
			}
			d.empty(t)
		})
	}
}

func rebuiltWithMore(t *testing.T, m Manifest, c contents, manifest []byte) []byte {
	var files [][2]string
	for _, model := range m.Models {
		for _, f := range model.files() {
			files = append(files, [2]string{f.Path, c[f.Path]})
		}
	}
	return rebuilt(t, manifest, append(files, [2]string{"extra", "x"})...)
}

func TestADiskThatIsTooFullIsSaidBeforeAByteIsWritten(t *testing.T) {
	d := open(t, nil)
	d.engine.Free = 100_000 // room for one of the two models
	m, c := sample()
	_, err := d.stream(t, build(t, m, c, nil), Options{})
	oneSentence(t, err, "disk space")
	if !errors.Is(err, models.ErrNoSpace) {
		t.Errorf("%v is not models.ErrNoSpace", err)
	}
	d.empty(t)
}

func TestAnEngineThatRefusesLeavesNothing(t *testing.T) {
	d := open(t, nil)
	d.engine.CreateErr = func(s models.Spec) error {
		if s.Name == "b" {
			return models.Fail(models.ErrInvalid, "unsupported architecture")
		}
		return nil
	}
	m, c := sample()
	_, err := d.stream(t, build(t, m, c, nil), Options{})
	oneSentence(t, err, "unsupported architecture")
	d.empty(t)
}

func TestAnInterruptedUploadKeepsWhatArrived(t *testing.T) {
	d := open(t, nil)
	m, c := sample()
	data := build(t, m, c, nil)
	cut := bytes.Index(data, []byte("weights of a")) + 20_000
	if _, err := d.stream(t, data[:cut], Options{}); err == nil {
		t.Fatal("half a pack was taken")
	}
	if _, partial := d.engine.Left(); partial != 1 {
		t.Fatalf("%d partial blobs, want the one on its way", partial)
	}
	if _, err := d.stream(t, data, Options{}); err != nil {
		t.Fatal(err)
	}
	if _, partial := d.engine.Left(); partial != 0 {
		t.Fatalf("%d partial blobs after the whole pack", partial)
	}
}

func TestWhoMayNotManageModelsImportsNothingAndIsOnRecord(t *testing.T) {
	d := open(t, nil)
	m, c := sample()
	data := build(t, m, c, nil)
	for _, p := range []auth.Principal{guardtest.Asker(), guardtest.Auditor(), guardtest.KeyFor("a")} {
		read := &untouched{t: t}
		_, err := d.Import(t.Context(), p, Source{Reader: io.MultiReader(read, bytes.NewReader(data))}, Options{})
		if !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s: %v", p.ID, err)
		}
		if err := d.Remove(t.Context(), p, "a"); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s removes: %v", p.ID, err)
		}
	}
	d.empty(t)
	refusals := 0
	for _, r := range d.house.Records(t) {
		if r.Decision == "deny" {
			refusals++
		}
	}
	if refusals != 6 {
		t.Errorf("%d refusals on record, want 6", refusals)
	}
}

// untouched fails the test when it is read.
type untouched struct{ t *testing.T }

func (u *untouched) Read([]byte) (int, error) {
	u.t.Error("bytes were read for somebody who may not import")
	return 0, io.EOF
}

func randomGGUF(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := enginetest.Write(path, enginetest.Tiny()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestASingleGGUFFileIsAModel(t *testing.T) {
	data := randomGGUF(t)
	sum := sha256.Sum256(data)
	d := open(t, nil)
	res, err := d.file(t, data, Options{})
	if err != nil || len(res.Models) != 1 || res.Models[0].Name != "some-model" || !res.Models[0].Base || res.Trust != bareFile {
		t.Fatalf("by path: %+v, %v", res, err)
	}
	if spec, _ := d.engine.Spec("some-model"); spec.Template != Transcript || len(spec.Stop) == 0 {
		t.Errorf("a base model without a template was made as %+v", spec)
	}
	src := Source{Reader: bytes.NewReader(data), SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(data))}
	if res, err = d.Import(t.Context(), guardtest.Admin(), src, Options{Name: "other"}); err != nil || res.Models[0].Name != "other" {
		t.Fatalf("by upload: %+v, %v", res, err)
	}
	if left, _ := os.ReadDir(d.temp); len(left) != 0 {
		t.Errorf("the upload left %v", left)
	}
}

func TestABadGGUFFileLeavesNothing(t *testing.T) {
	data := randomGGUF(t)
	huge := bytes.Clone(data)
	copy(huge[16:], "\xff\xff\xff\xff\xff\xff\xff\x7f")
	cases := []struct {
		name string
		data []byte
		o    Options
		says string
	}{
		{"cut in its data", data[:len(data)-1], Options{}, "cut short"},
		{"cut in its header", data[:300], Options{}, "cut short"},
		{"only its magic", []byte("GGUF"), Options{}, "cut short"},
		{"a header that promises too much", huge, Options{}, "damaged"},
		{"a version of the future", append([]byte("GGUF\x09\x00\x00\x00"), data[8:]...), Options{}, "version 9"},
		{"a name with control characters", data, Options{Name: "a\x1b[2J"}, "--name"},
	}
	for _, c := range cases {
		for _, way := range []string{"path", "stream"} {
			t.Run(c.name+" by "+way, func(t *testing.T) {
				d := open(t, nil)
				run := d.file
				if way == "stream" {
					run = d.stream
					if c.o.Name == "" {
						c.o.Name = "m"
					}
				}
				_, err := run(t, c.data, c.o)
				oneSentence(t, err, c.says)
				d.empty(t)
			})
		}
	}
}

func TestAnUploadWithAnotherHashLeavesNothing(t *testing.T) {
	d := open(t, nil)
	src := Source{Reader: bytes.NewReader(randomGGUF(t)), SHA256: strings.Repeat("0", 64)}
	_, err := d.Import(t.Context(), guardtest.Admin(), src, Options{Name: "m"})
	oneSentence(t, err, "send it again")
	d.empty(t)
	m, c := sample()
	src = Source{Reader: bytes.NewReader(build(t, m, c, nil)), SHA256: strings.Repeat("0", 64)}
	_, err = d.Import(t.Context(), guardtest.Admin(), src, Options{})
	oneSentence(t, err, "send it again")
	d.empty(t)
}

func TestAPathThatIsNoFileIsSaidSo(t *testing.T) {
	d := open(t, nil)
	for path, says := range map[string]string{t.TempDir(): "is not a file", "/no/such/file": "cannot be opened"} {
		_, err := d.Import(context.Background(), guardtest.Admin(), Source{Path: path}, Options{})
		oneSentence(t, err, says)
	}
	d.empty(t)
}

func FuzzGGUF(f *testing.F) {
	path := filepath.Join(f.TempDir(), "m.gguf")
	if err := enginetest.Write(path, enginetest.Tiny()); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[:8192])
	f.Add([]byte("GGUF\x03\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := readGGUF(bytes.NewReader(data), int64(len(data)))
		if err == nil && (g.End > int64(len(data)) || g.Architecture == "") {
			t.Errorf("taken: %+v of %d bytes", g, len(data))
		}
	})
}

func FuzzPack(f *testing.F) {
	m, c := sample()
	var out bytes.Buffer
	if _, err := Build(&out, m, nil, c.open); err != nil {
		f.Fatal(err)
	}
	f.Add(out.Bytes()[:6000])
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := openPack(bytes.NewReader(data), nil)
		if err == nil {
			if err := p.manifest.check(); err != nil {
				t.Errorf("a manifest that does not pass its own check: %v", err)
			}
		}
	})
}
