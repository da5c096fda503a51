package proof

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// testKey is a log key made from a seed, so that bundles are the same each run.
type testKey struct {
	signer note.Signer
	vkey   string
	print  string
}

func newKey(t testing.TB, seed string) testKey {
	t.Helper()
	skey, vkey, err := note.GenerateKey(strings.NewReader(strings.Repeat(seed, ed25519.SeedSize)), "cloister/test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	print, err := FingerprintOf(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return testKey{signer, vkey, print}
}

// testLog is an audit log in memory.
type testLog struct {
	t      testing.TB
	key    testKey
	keys   []Key
	epoch  uint64
	id     string
	epochs [][]byte
	cosign map[string]Cosignature
	lines  []Line
	hashes []tlog.Hash
}

func newLog(t testing.TB, n int) *testLog {
	key := newKey(t, "k")
	l := &testLog{t: t, key: key, epoch: 1, keys: []Key{{VerifierKey: key.vkey, Fingerprint: key.print}}}
	for i := range n {
		l.append(testLeaf(i, ""))
	}
	return l
}

func testLeaf(i int, salt string) string {
	switch i % 4 {
	case 0:
		return fmt.Sprintf(`{"action":"ask","actor":{"id":"u1","kind":"User"},"args_sha256":"%064x","decision":"allow","id":"R%d%s","kind":"intent","policies":["users-ask"],"resource":{"id":"cloister","type":"System"},"run":"r-1","v":1}`, i, i, salt)
	case 1:
		return fmt.Sprintf(`{"action":"ask","actor":{"id":"u1","kind":"User"},"cost_nano_usd":%d,"id":"R%d%s","intent":"R%d","kind":"outcome","resource":{"id":"cloister","type":"System"},"status":"ok","usage":{"tokens_in":12},"v":1}`, i, i, salt, i-1)
	case 2:
		return fmt.Sprintf(`{"action":"audit.export","actor":{"id":"a1","kind":"Agent","on_behalf_of":{"id":"u2","kind":"User"}},"decision":"deny","id":"R%d%s","kind":"refusal","policies":["default-deny"],"resource":{"id":"audit","type":"Log"},"v":1}`, i, salt)
	}
	return fmt.Sprintf(`{"action":"source.fetch","actor":{"id":"sync","kind":"System"},"detail":{"name":"=\"docs\", und \u000b mehr"},"id":"R%d%s","kind":"event","resource":{"id":"docs","type":"Source"},"v":1}`, i, salt)
}

func (l *testLog) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = l.hashes[x]
	}
	return out, nil
}

func (l *testLog) append(leaf string) {
	n := len(l.lines)
	hs, err := tlog.StoredHashes(int64(n), []byte(leaf), l)
	if err != nil {
		l.t.Fatal(err)
	}
	l.hashes = append(l.hashes, hs...)
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).Add(time.Duration(n) * 1500 * time.Millisecond)
	l.lines = append(l.lines, Line{Seq: uint64(n), Version: uint64(2*n + 3), Time: at, Leaf: []byte(leaf)})
}

func (l *testLog) size() uint64 { return uint64(len(l.lines)) }

// checkpoint signs the log as it was at a size.
func (l *testLog) checkpoint(size uint64) []byte {
	root, err := tlog.TreeHash(int64(size), l)
	if err != nil {
		l.t.Fatal(err)
	}
	c := Checkpoint{Origin: "cloister/test", Size: size, Root: root, Epoch: l.epoch, EpochID: l.id, Time: time.Date(2026, 11, 23, 13, 0, int(size%60), 0, time.UTC)}
	return l.sign(c.Text())
}

// next is the statement of an epoch that begins where the log ends.
func (l *testLog) next(number uint64, id string) Epoch {
	root, err := tlog.TreeHash(int64(l.size()), l)
	if err != nil {
		l.t.Fatal(err)
	}
	return Epoch{
		Origin: "cloister/test", Number: number, ID: id, Continues: l.epoch, ContinueID: l.id, Size: l.size(), Root: root,
		How: HowRestored, From: "20261123T120000Z-v77", Lost: 12, Time: time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC),
	}
}

// open opens an epoch.
func (l *testLog) open(number uint64, id string) {
	e := l.next(number, id)
	l.epochs = append(l.epochs, l.sign(e.Text()))
	l.append(epochLeaf(number, id))
	l.epoch, l.id = number, id
}

func (l *testLog) sign(text string) []byte {
	msg, err := note.Sign(&note.Note{Text: text}, l.key.signer)
	if err != nil {
		l.t.Fatal(err)
	}
	return msg
}

func (l *testLog) source(from, to uint64) Source {
	return Source{
		Checkpoint: l.checkpoint(l.size()), Keys: l.keys, Epochs: l.epochs, Cosigned: l.cosign, From: from, To: to, Hashes: l,
		Records: func() iter.Seq2[Line, error] {
			return func(yield func(Line, error) bool) {
				for _, line := range l.lines[from:to] {
					if !yield(line, nil) {
						return
					}
				}
			}
		},
		Policies: map[string]string{"users-ask": "permit(principal, action, resource);\n", "../odd name": "forbid(principal, action, resource);\n"},
		Sign:     func(text string) ([]byte, error) { return l.sign(text), nil },
	}
}

func write(t testing.TB, s Source) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (l *testLog) bundle(from, to uint64) []byte { return write(l.t, l.source(from, to)) }

func (l *testLog) verify(bundle []byte, after []byte) (Report, error) {
	return Verify(bytes.NewReader(bundle), int64(len(bundle)), Options{LogKey: l.key.print, After: after})
}

// unpack and repack let a test play the forger: change files, keep the tar valid.
func unpack(t testing.TB, bundle []byte) []piece {
	t.Helper()
	files, p := readContainer(bytes.NewReader(bundle), int64(len(bundle)))
	if p != nil {
		t.Fatal(p)
	}
	var out []piece
	for _, f := range files {
		out = append(out, piece{f.name, slices.Clone(bundle[f.offset:f.end()])})
	}
	return out
}

type piece struct {
	name string
	data []byte
}

func repack(t testing.TB, pieces []piece) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tarWriter{w: &b}
	for _, p := range pieces {
		if err := w.next(p.name, int64(len(p.data))); err != nil {
			t.Fatal(err)
		}
		w.Write(p.data)
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// forge changes one file of a bundle and leaves the rest as it is.
func forge(t testing.TB, bundle []byte, name string, change func([]byte) []byte) []byte {
	t.Helper()
	pieces := unpack(t, bundle)
	for i := range pieces {
		if pieces[i].name == name {
			pieces[i].data = change(pieces[i].data)
			return repack(t, pieces)
		}
	}
	t.Fatalf("the bundle has no %s", name)
	return nil
}
