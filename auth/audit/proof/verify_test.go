package proof

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func TestABundleVerifies(t *testing.T) {
	for _, c := range []struct{ size, from, to uint64 }{
		{0, 0, 0}, {1, 0, 1}, {5, 0, 5}, {5, 2, 4}, {5, 3, 3}, {256, 0, 256}, {257, 0, 257}, {257, 255, 257},
		{700, 300, 301}, {700, 0, 700}, {1025, 511, 513}, {1025, 1024, 1025},
	} {
		t.Run(fmt.Sprintf("%d of %d to %d", c.size, c.from, c.to), func(t *testing.T) {
			l := newLog(t, int(c.size))
			r, err := l.verify(l.bundle(c.from, c.to), nil)
			if err != nil {
				t.Fatal(err)
			}
			root, _ := tlog.TreeHash(int64(c.size), l)
			if r.From != c.from || r.To != c.to || r.Records != c.to-c.from || r.Size != c.size || r.Root != root.String() ||
				r.Key != l.key.print || r.Epoch != 1 || r.Origin != "cloister/test" {
				t.Errorf("report %+v", r)
			}
		})
	}
}

// TestEveryByteCounts changes each byte of a small bundle in turn, by one bit or
// by all: verification fails each time and names the file or the record.
func TestEveryByteCounts(t *testing.T) {
	l := newLog(t, 7)
	s := l.source(2, 6)
	s.History = [][]byte{l.checkpoint(3)}
	bundle := write(t, s)
	files, _ := readContainer(bytes.NewReader(bundle), int64(len(bundle)))
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			changed := bytes.Clone(bundle)
			for i := w; i < len(changed) && !t.Failed(); i += workers {
				flip := [2]byte{1, 0xff}[i/workers%2]
				changed[i] ^= flip
				_, err := l.verify(changed, nil)
				changed[i] ^= flip
				var p *Problem
				if !errors.As(err, &p) {
					t.Errorf("byte %d ^ %#x: %v", i, flip, err)
				} else if !names(p, files, int64(i)) {
					t.Errorf("byte %d ^ %#x is in %q, but the problem is %q of %q, bytes %d to %d", i, flip, fileAt(files, int64(i)), p, p.File, p.Offset, p.End)
				}
			}
		})
	}
	wg.Wait()
}

// names reports whether a problem points at the byte, or at the file it is in.
func names(p *Problem, files []file, at int64) bool {
	in := fileAt(files, at)
	switch {
	case in == "":
		return p.File == "" && p.End > 0 // a header, padding, or the end
	case p.Kind == OtherKey:
		return in == keysName
	case in == recordsName:
		return p.File == recordsName && p.Record >= 0 && p.Offset <= at && at < p.End
	case in == csvName:
		return p.File == csvName && p.Offset == at
	}
	return p.File == in && p.Offset <= at && at < p.End
}

func fileAt(files []file, at int64) string {
	for _, f := range files {
		if f.offset <= at && at < f.end() {
			return f.name
		}
	}
	return ""
}

func TestManyBytesOfALargeBundleCount(t *testing.T) {
	l := newLog(t, 1500)
	bundle := l.bundle(100, 1400)
	random := rand.New(rand.NewPCG(1, 2))
	n := 100
	if testing.Short() {
		n = 20
	}
	for range n {
		i := random.IntN(len(bundle))
		flip := byte(1 + random.IntN(255))
		bundle[i] ^= flip
		_, err := l.verify(bundle, nil)
		bundle[i] ^= flip
		var p *Problem
		if !errors.As(err, &p) || p.End == 0 && p.Kind != OtherKey {
			t.Fatalf("byte %d ^ %#x: %v", i, flip, err)
		}
	}
}

func TestCuttingOrLengtheningIsSeen(t *testing.T) {
	l := newLog(t, 5)
	bundle := l.bundle(0, 5)
	for n := 0; n < len(bundle); n += 97 {
		if _, err := l.verify(bundle[:n], nil); err == nil {
			t.Fatalf("the first %d of %d bytes verify", n, len(bundle))
		}
	}
	for _, more := range []string{"\x00", "x", strings.Repeat("\x00", 512)} {
		if _, err := l.verify(append(bytes.Clone(bundle), more...), nil); err == nil {
			t.Fatalf("verifies with %d bytes added", len(more))
		}
	}
}

// TestANoteHasOneSpelling: what the note format would pass over is refused too.
func TestANoteHasOneSpelling(t *testing.T) {
	l := newLog(t, 5)
	other := newKey(t, "x")
	bundle := l.bundle(0, 5)
	for name, more := range map[string]func([]byte) []byte{
		"the signature twice": func(b []byte) []byte { return append(b, b[bytes.LastIndex(b, []byte("— ")):]...) },
		"a second signature": func(b []byte) []byte {
			n, err := note.Sign(&note.Note{Text: "x\n"}, other.signer)
			if err != nil {
				t.Fatal(err)
			}
			return append(b, n[bytes.Index(n, []byte("— ")):]...)
		},
	} {
		_, err := l.verify(forge(t, bundle, manifestName, more), nil)
		var p *Problem
		if !errors.As(err, &p) || p.File != manifestName {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// forgeLines changes records.jsonl by lines.
func forgeLines(t testing.TB, bundle []byte, change func([][]byte) [][]byte) []byte {
	return forge(t, bundle, recordsName, func(data []byte) []byte {
		return bytes.Join(change(bytes.SplitAfter(data, []byte("\n"))), nil)
	})
}

func TestTheFirstWrongRecordIsNamed(t *testing.T) {
	l := newLog(t, 600)
	bundle := l.bundle(10, 590)
	renumber := func(line []byte, from, to int) []byte {
		return bytes.Replace(line, fmt.Appendf(nil, `{"seq":%d,`, from), fmt.Appendf(nil, `{"seq":%d,`, to), 1)
	}
	for _, c := range []struct {
		name   string
		kind   ProblemKind
		record int64
		text   string
		change func([][]byte) [][]byte
	}{
		{"dropped", Dropped, 50, "record 50 was dropped: record 51 stands in its place", func(l [][]byte) [][]byte {
			return append(l[:40:40], l[41:]...)
		}},
		{"first dropped", Dropped, 10, "record 10 was dropped: record 11 stands in its place", func(l [][]byte) [][]byte { return l[1:] }},
		{"last dropped", Dropped, 589, "record 589 was dropped", func(l [][]byte) [][]byte { return append(l[:579:579], l[580:]...) }},
		{"many dropped at the end", Dropped, 500, "record 500 was dropped, and all after it to 589", func(l [][]byte) [][]byte { return l[:490] }},
		{"all dropped", Dropped, 10, "record 10 was dropped, and all after it to 589", func(l [][]byte) [][]byte { return nil }},
		{"dropped and renumbered", Dropped, 50, "record 50 was dropped: record 51 stands in its place", func(l [][]byte) [][]byte {
			out := append(l[:40:40], l[41:]...)
			for i := 40; i < len(out)-1; i++ {
				out[i] = renumber(out[i], i+11, i+10)
			}
			return out
		}},
		{"swapped", Reordered, 50, "record 50 was moved: record 51 stands in its place", func(l [][]byte) [][]byte {
			l[40], l[41] = l[41], l[40]
			return l
		}},
		{"swapped and renumbered", Reordered, 50, "record 50 was moved: record 300 stands in its place", func(l [][]byte) [][]byte {
			l[40], l[290] = renumber(l[290], 300, 50), renumber(l[40], 50, 300)
			return l
		}},
		{"twice", Added, 51, "record 50 stands again where record 51 should", func(l [][]byte) [][]byte {
			return append(l[:41:41], l[40:]...)
		}},
		{"twice and renumbered", Added, 51, "record 50 stands again where record 51 should", func(l [][]byte) [][]byte {
			l[41] = renumber(l[40], 50, 51)
			return l
		}},
		{"added at the end", Added, 590, "record 589 was added: the range ends before it", func(l [][]byte) [][]byte {
			return append(l[:580:580], l[579], nil)
		}},
		{"changed", Changed, 50, "record 50 was changed", func(l [][]byte) [][]byte {
			l[40] = bytes.Replace(l[40], []byte("deny"), []byte("allow"), 1)
			return l
		}},
		{"version", Changed, 50, "record 50 was changed: its version or time is not the one exported", func(l [][]byte) [][]byte {
			l[40] = bytes.Replace(l[40], []byte(`"version":103`), []byte(`"version":104`), 1)
			return l
		}},
		{"number", Changed, 50, "record 50 was changed: it is numbered 40", func(l [][]byte) [][]byte {
			l[40] = renumber(l[40], 50, 40)
			return l
		}},
		{"spelling", Changed, 50, "record 50 was changed: it is not a line of records.jsonl", func(l [][]byte) [][]byte {
			l[40] = bytes.Replace(l[40], []byte(`{"seq":50`), []byte(`{"seq":050`), 1)
			return l
		}},
		{"long line", Changed, 50, "record 50 was changed: its line is too long", func(l [][]byte) [][]byte {
			l[40] = append(bytes.Repeat([]byte("x"), 1<<20), '\n')
			return l
		}},
		{"no end", Changed, 589, "record 589 was changed: its line has no end", func(l [][]byte) [][]byte {
			l[579] = l[579][:30]
			return l[:580]
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := l.verify(forgeLines(t, bundle, c.change), nil)
			var p *Problem
			if !errors.As(err, &p) || p.Kind != c.kind || p.Record != c.record || p.Text != c.text {
				t.Errorf("got %#v: %v", p, err)
			}
		})
	}
}

func TestARecordDroppedWithoutMendingTheContainerIsNamed(t *testing.T) {
	l := newLog(t, 20)
	bundle := l.bundle(0, 20)
	line := l.lines[7].appendTo(nil)
	_, err := l.verify(bytes.Replace(bundle, line, nil, 1), nil)
	var p *Problem
	if !errors.As(err, &p) || p.Record != 7 || p.Kind != Dropped {
		t.Errorf("got %v", err)
	}
}

func TestABundleSignedByAnotherKeyIsRefused(t *testing.T) {
	l := newLog(t, 20)
	noted := l.key.print
	thief := newLog(t, 20)
	thief.key = newKey(t, "x")
	thief.keys = []Key{{VerifierKey: thief.key.vkey, Fingerprint: thief.key.print}}
	bundle := thief.bundle(0, 20)
	check := func(name string, bundle []byte, kind ProblemKind, text string) {
		t.Run(name, func(t *testing.T) {
			_, err := Verify(bytes.NewReader(bundle), int64(len(bundle)), Options{LogKey: noted})
			var p *Problem
			if !errors.As(err, &p) || p.Kind != kind || !strings.Contains(p.Text, text) {
				t.Errorf("got %v", err)
			}
		})
	}
	check("all of it", bundle, OtherKey, "not from the log whose key you noted: it was signed by the log key "+thief.key.print)
	own := l.bundle(0, 20)
	check("with the real keys.json", forge(t, bundle, keysName, func([]byte) []byte { return unpack(t, own)[1].data }), Changed, "the checkpoint was changed")
	check("with the real fingerprint beside its key", forge(t, bundle, keysName, func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte(thief.key.print), []byte(noted))
	}), Changed, "does not have the fingerprint that stands beside it")
	thief.keys = append([]Key{l.keys[0]}, thief.keys...)
	thief.keys[1].Handover = string(thief.sign(HandoverText("cloister/test", l.key.vkey, thief.key.vkey, 0)))
	check("with a handover the real key never signed", thief.bundle(0, 20), Changed, "was not signed by "+noted)
	manifest := own[bytes.Index(own, []byte(formatLine)):]
	check("manifest only", forge(t, own, manifestName, func(b []byte) []byte {
		text, _, _ := strings.Cut(string(manifest), "\n\n")
		return thief.sign(text + "\n")
	}), Changed, "the manifest was changed")
}

func TestTheLogKeyCanBeHandedOver(t *testing.T) {
	l := newLog(t, 10)
	old, oldKey := l.checkpoint(10), l.key
	next := newKey(t, "n")
	handover, err := note.Sign(&note.Note{Text: HandoverText("cloister/test", l.key.vkey, next.vkey, 11)}, l.key.signer, next.signer)
	if err != nil {
		t.Fatal(err)
	}
	l.keys = append(l.keys, Key{VerifierKey: next.vkey, Fingerprint: next.print, FromSize: 11, Handover: string(handover)})
	l.key = next
	for i := range 10 {
		l.append(testLeaf(i, "b"))
	}
	s := l.source(0, 20)
	s.History = [][]byte{old}
	bundle := write(t, s)
	for _, noted := range []string{oldKey.print, next.print} {
		r, err := Verify(bytes.NewReader(bundle), int64(len(bundle)), Options{LogKey: noted, After: old})
		if err != nil {
			t.Fatalf("noted %s: %v", noted, err)
		}
		if r.Key != next.print || r.Keys != 2 || r.History != 1 || r.After.Size != 10 {
			t.Errorf("report %+v", r)
		}
	}
	// The old key may sign nothing of the time after it.
	l.key = oldKey
	if _, err := Verify(bytes.NewReader(l.bundle(0, 20)), 0, Options{LogKey: next.print}); err == nil {
		t.Error("a checkpoint by the key that was replaced verifies")
	}
	stale := l.bundle(0, 20)
	if _, err := Verify(bytes.NewReader(stale), int64(len(stale)), Options{LogKey: next.print}); err == nil {
		t.Error("a checkpoint by the key that was replaced verifies")
	}
}

func TestAfter(t *testing.T) {
	l := newLog(t, 900)
	fork := newLog(t, 500)
	for i := 500; i < 900; i++ {
		fork.append(testLeaf(i, "other"))
	}
	forkAt := fork.checkpoint(600)
	restored := newLog(t, 500)
	restored.open(2, idA)
	for i := 501; i < 700; i++ {
		restored.append(testLeaf(i, "again"))
	}
	other := newLog(t, 100)
	other.key = newKey(t, "x")
	all, tail := l.bundle(0, 900), l.bundle(700, 900)
	held := l.source(700, 900)
	held.Held = []uint64{300}
	for _, c := range []struct {
		name   string
		log    *testLog
		bundle []byte
		after  []byte
		kind   ProblemKind // "" = verifies
	}{
		{"older, in the range", l, all, l.checkpoint(300), ""},
		{"the same", l, all, l.checkpoint(900), ""},
		{"empty", l, all, l.checkpoint(0), ""},
		{"where the range begins", l, tail, l.checkpoint(700), ""},
		{"before the range, named", l, write(t, held), l.checkpoint(300), ""},
		{"before the range, not named", l, tail, l.checkpoint(300), Unproven},
		{"cut", l, func() []byte { s := newLog(t, 800); return s.bundle(0, 800) }(), l.checkpoint(900), Cut},
		{"newer than the bundle", newLog(t, 10), newLog(t, 10).bundle(0, 10), l.checkpoint(11), Cut},
		{"fork", l, all, forkAt, Forked},
		{"fork of the same size", l, all, fork.checkpoint(900), Forked},
		{"before the fork", l, all, fork.checkpoint(500), ""},
		{"restored", restored, restored.bundle(0, 700), l.checkpoint(600), Restored},
		{"before the restore", restored, restored.bundle(0, 700), l.checkpoint(500), ""},
		{"of another log", l, all, other.checkpoint(50), OtherKey},
		{"nonsense", l, all, []byte("nonsense"), OtherKey},
		{"changed", l, all, bytes.Replace(l.checkpoint(300), []byte("\n300\n"), []byte("\n301\n"), 1), OtherKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := c.log.verify(c.bundle, c.after)
			var p *Problem
			if c.kind == "" && (err != nil || r.After == nil) || c.kind != "" && (!errors.As(err, &p) || p.Kind != c.kind) {
				t.Errorf("got %v, want %q", err, c.kind)
			}
		})
	}
}

// TestAnEarlierBundleTellsWhereAForkBegins: with only a checkpoint nobody could.
func TestAnEarlierBundleTellsWhereAForkBegins(t *testing.T) {
	l, fork := newLog(t, 700), newLog(t, 423)
	for i := 423; i < 700; i++ {
		fork.append(testLeaf(i, "other"))
	}
	broken := l.bundle(0, 500)
	broken[len(broken)/2] ^= 1
	for _, c := range []struct {
		name   string
		held   []byte
		kind   ProblemKind
		record int64
	}{
		{"continued", l.bundle(100, 600), "", 0},
		{"forked", fork.bundle(300, 600), Forked, 423},
		{"forked in the past", fork.bundle(500, 600), Forked, 500},
		{"forked elsewhere", fork.bundle(0, 100), Forked, none},
		{"held bundle is broken", broken, Changed, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := l.bundle(0, 700)
			r, err := Verify(bytes.NewReader(b), int64(len(b)), Options{LogKey: l.key.print, AfterBundle: io.NewSectionReader(bytes.NewReader(c.held), 0, int64(len(c.held)))})
			var p *Problem
			if c.kind == "" {
				if err != nil || r.After.Size != 700 {
					t.Errorf("%+v, %v", r.After, err)
				}
			} else if !errors.As(err, &p) || p.Kind != c.kind || c.kind == Forked && p.Record != c.record {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestACheckpointIsFoundInWhatWasTakenAway: in a note and in a bundle, and nowhere
// else.
func TestACheckpointIsFoundInWhatWasTakenAway(t *testing.T) {
	l := newLog(t, 50)
	for name, held := range map[string][]byte{"a note": l.checkpoint(50), "a bundle": l.bundle(10, 50)} {
		note, err := CheckpointIn(bytes.NewReader(held))
		if cp, parsing := ParseCheckpoint(note); err != nil || parsing != nil || cp.Size != 50 {
			t.Errorf("in %s: %+v, %v, %v", name, cp, err, parsing)
		}
	}
	cut := l.bundle(10, 50)[:tarBlock+20]
	for name, held := range map[string][]byte{"nothing": nil, "a letter": []byte("Dear auditor,\n"), "a bundle that was cut": cut} {
		if _, err := CheckpointIn(bytes.NewReader(held)); err == nil {
			t.Errorf("found in %s", name)
		}
	}
}

// TestAnEarlierCheckpointThatIsContradictedIsSeen: the log's own history is
// part of the bundle and must be continued too.
func TestAnEarlierCheckpointThatIsContradictedIsSeen(t *testing.T) {
	l := newLog(t, 50)
	fork := newLog(t, 0)
	for i := range 20 {
		fork.append(testLeaf(i, "other"))
	}
	s := l.source(0, 50)
	s.History = [][]byte{fork.checkpoint(20)}
	if _, err := l.verify(write(t, s), nil); err == nil || !strings.Contains(err.Error(), "does not continue checkpoints/20") {
		t.Errorf("got %v", err)
	}
}

func TestOpeningsMatchTheirCommitments(t *testing.T) {
	l := newLog(t, 3)
	salt := bytes.Repeat([]byte{7}, saltBytes)
	sum := sha256.Sum256(append(salt, "Ada"...))
	l.append(fmt.Sprintf(`{"action":"ask","actor":{"id":"u1","kind":"User"},"id":"P","kind":"event","personal":{"name":"%x"},"resource":{"id":"cloister","type":"System"},"v":1}`, sum))
	open := Open{Field: "name", Salt: hex.EncodeToString(salt), Value: "Ada"}
	with := func(o Open) Source {
		s := l.source(0, 4)
		s.Openings = func(id string) ([]Open, error) {
			if id != "P" {
				t.Errorf("asked for the openings of %s", id)
			}
			return []Open{o}, nil
		}
		return s
	}
	if r, err := l.verify(write(t, with(open)), nil); err != nil || r.Openings != 1 {
		t.Errorf("%d openings, %v", r.Openings, err)
	}
	for name, o := range map[string]Open{
		"value": {Field: "name", Salt: open.Salt, Value: "Eve"},
		"field": {Field: "mail", Salt: open.Salt, Value: "Ada"},
		"shift": {Field: "name", Salt: open.Salt[:62], Value: "\x07Ada"},
	} {
		_, err := l.verify(write(t, with(o)), nil)
		var p *Problem
		if !errors.As(err, &p) || p.Record != 3 || p.File != openingsName {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestABadFingerprintSaysWhatToDo(t *testing.T) {
	l := newLog(t, 1)
	b := l.bundle(0, 1)
	for _, f := range []string{"", "SHA256:", "MD5:abc", l.key.print[:20]} {
		if _, err := Verify(bytes.NewReader(b), int64(len(b)), Options{LogKey: f}); err == nil || !strings.Contains(err.Error(), "noted at setup") {
			t.Errorf("%q: %v", f, err)
		}
	}
	if _, err := Verify(bytes.NewReader(b), int64(len(b)), Options{LogKey: " " + l.key.print + "=\n"}); err != nil {
		t.Errorf("as pasted: %v", err)
	}
}

// TestTheFormatStands holds the format still: a change of these bytes needs a
// new first line of the manifest, for verifiers of today must read old bundles.
func TestTheFormatStands(t *testing.T) {
	l := newLog(t, 6)
	bundle := l.bundle(1, 6)
	for _, p := range unpack(t, bundle) {
		golden := filepath.Join("testdata", "bundle", strings.ReplaceAll(p.name, "/", "_"))
		if os.Getenv("UPDATE_GOLDEN") != "" {
			if err := os.WriteFile(golden, p.data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p.data, want) {
			t.Errorf("%s is not what testdata holds", p.name)
		}
	}
}

func FuzzVerify(f *testing.F) {
	l := newLog(f, 3)
	f.Add(l.bundle(0, 3))
	f.Add([]byte{})
	f.Add(make([]byte, tarTail))
	good := l.bundle(0, 3)
	f.Fuzz(func(t *testing.T, bundle []byte) {
		if _, err := l.verify(bundle, nil); err == nil && !bytes.Equal(bundle, good) {
			t.Error("other bytes than the export's verify")
		}
	})
}

func FuzzLine(f *testing.F) {
	l := newLog(f, 4)
	for _, line := range l.lines {
		f.Add(line.appendTo(nil))
	}
	f.Add(Line{Leaf: []byte("no JSON\n")}.appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		line, err := parseLine(bytes.TrimSuffix(b, []byte("\n")))
		if err != nil {
			return
		}
		leaf := parseLeaf(line.Leaf)
		appendCSV(nil, line, &leaf)
		again := line.appendTo(nil)
		back, err := parseLine(again[:len(again)-1])
		if err != nil || back.Seq != line.Seq || !bytes.Equal(back.Leaf, line.Leaf) {
			t.Errorf("%q came back as %q", b, again)
		}
	})
}
