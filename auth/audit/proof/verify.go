package proof

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Options is what the auditor brings. Nothing in the bundle can replace it.
type Options struct {
	LogKey string // the fingerprint of the log key, noted at setup; required
	After  []byte // a checkpoint taken away earlier that the log must continue; nil = none
	// AfterBundle is a bundle taken away earlier, in place of After: where the
	// log does not continue it, the first record that differs is named.
	AfterBundle *io.SectionReader
}

// Report is what was verified.
type Report struct {
	Origin     string     `json:"origin"`
	Epoch      uint64     `json:"epoch"`
	From       uint64     `json:"from"`    // first record
	To         uint64     `json:"to"`      // first record not in the bundle
	Records    uint64     `json:"records"` // To - From
	First      *time.Time `json:"first,omitempty"`
	Last       *time.Time `json:"last,omitempty"`
	Size       uint64     `json:"size"` // records in the whole log
	Root       string     `json:"root"`
	Checkpoint time.Time  `json:"checkpoint_time"`
	Key        string     `json:"key"`              // the key that signed
	Keys       int        `json:"keys"`             // in the chain of handovers that leads to it
	History    int        `json:"checkpoints"`      // earlier checkpoints proven consistent
	Epochs     []Epoch    `json:"epochs,omitempty"` // those after the first, oldest first
	Cosigned   []Cosigned `json:"cosigned,omitempty"`
	Openings   int        `json:"openings"` // personal fields opened and matched
	After      *After     `json:"after,omitempty"`
	Problems   []*Problem `json:"problems,omitempty"` // all that were found, the gravest first
}

// After is the earlier checkpoint that the log was proven to continue.
type After struct {
	Size uint64    `json:"size"`
	Time time.Time `json:"time"`
}

// Verify checks a bundle of the given size. It returns nil only when every byte
// of it is what the holder of the log key exported and its records are the
// log's; otherwise the error is a *Problem, or says why nothing could be read.
func Verify(r io.ReaderAt, size int64, o Options) (Report, error) {
	fingerprint, err := parseFingerprint(o.LogKey)
	if err != nil {
		return Report{}, err
	}
	b := &bundle{r: r, byName: map[string]file{}}
	earlier, p := readHeld(o, fingerprint)
	b.add(p)
	b.verify(size, fingerprint, earlier)
	b.report.Problems = b.found()
	if len(b.report.Problems) > 0 {
		return b.report, b.report.Problems[0]
	}
	return b.report, nil
}

// bundle is a bundle being verified.
type bundle struct {
	r        io.ReaderAt
	files    []file
	byName   map[string]file
	ring     *keyring
	cp       Checkpoint
	man      *manifest
	epochs   []Epoch
	stated   bool // epochs leads to the checkpoint's
	signed   bool // man is there and bears the log key's signature
	tree     tlog.HashReader
	report   Report
	problems []*Problem
}

// verify runs the checks in the order of what rests on what. A check that
// fails does not keep a later one from naming the place more exactly, as long
// as what that one rests on holds.
func (b *bundle) verify(size int64, fingerprint string, earlier held) {
	files, p := readContainer(b.r, size)
	b.add(p)
	for _, f := range files {
		if _, twice := b.byName[f.name]; twice {
			b.add(inFile(f, "%s stands twice in the bundle", f.name))
		}
		b.byName[f.name] = f
	}
	b.files = files
	if !b.readKeys(fingerprint) {
		return
	}
	b.readManifest()
	b.compareFiles()
	if !b.readCheckpoint() {
		return
	}
	b.readEpochs()
	b.scan()
	b.checkHistory()
	b.checkCosigned()
	if earlier.note != nil && len(b.problems) == 0 {
		b.add(b.checkAfter(earlier))
	}
}

// read reads a small file whole.
func (b *bundle) read(f file, limit int64) ([]byte, error) {
	if f.size > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", f.name, limit)
	}
	data := make([]byte, f.size)
	if _, err := b.r.ReadAt(data, f.offset); err != nil && err != io.EOF {
		return nil, err
	}
	return data, nil
}

// named reads a file that must be there.
func (b *bundle) named(name string, limit int64) ([]byte, file, bool) {
	f, ok := b.byName[name]
	if !ok {
		b.add(&Problem{Kind: Dropped, Record: none, File: name, Text: "the bundle lacks " + name})
		return nil, f, false
	}
	data, err := b.read(f, limit)
	if err != nil {
		b.add(inFile(f, "%v", err))
		return nil, f, false
	}
	return data, f, true
}

func (b *bundle) readKeys(fingerprint string) bool {
	data, f, ok := b.named(keysName, maxSmallBytes)
	if !ok {
		return false
	}
	var keys []Key
	if err := json.Unmarshal(data, &keys); err != nil {
		b.add(inFile(f, "keys.json was changed: it is no key history"))
		return false
	}
	ring, err := newKeyring(keys, fingerprint)
	var unknown *unknownKeyError
	if errors.As(err, &unknown) {
		p := inFile(f, "this bundle is not from the log whose key you noted: %v", err)
		p.Kind = OtherKey
		b.add(p)
		return false
	}
	if err != nil {
		b.add(inFile(f, "keys.json was changed: %v", err))
		return false
	}
	b.ring = ring
	b.report.Origin, b.report.Keys = ring.origin, len(keys)
	return true
}

// readManifest takes the manifest. One whose signature does not hold says
// nothing: the records then tell their own range.
func (b *bundle) readManifest() {
	data, f, ok := b.named(manifestName, maxManifestBytes)
	if !ok {
		return
	}
	text := ""
	for i := len(b.ring.verify) - 1; i >= 0 && !b.signed; i-- {
		var err error
		text, err = openStrict(data, b.ring.verify[i])
		b.signed, b.report.Key = err == nil, b.ring.keys[i].Fingerprint
	}
	if !b.signed {
		p := inFile(f, "the manifest was changed: the log key's signature does not fit it")
		p.rank = rankManifest
		b.add(p)
		return
	}
	man, err := parseManifest(text)
	if err != nil {
		b.signed = false
		b.add(inFile(f, "%v", err))
		return
	}
	b.man = man
	b.report.From, b.report.To, b.report.Records, b.report.Epoch = man.from, man.to, man.to-man.from, man.epoch
	if man.origin != b.ring.origin {
		b.add(inFile(f, "the manifest is of the log %s, the key of %s", man.origin, b.ring.origin))
	}
}

// compareFiles holds the files against a signed manifest. records.jsonl and
// records.csv are large: scan hashes them as it reads.
func (b *bundle) compareFiles() {
	if !b.signed {
		return
	}
	for i, f := range b.files {
		if f.name == manifestName {
			if i != len(b.man.files) || i != len(b.files)-1 {
				b.add(inFile(f, "the bundle holds %d files, its manifest lists %d", len(b.files)-1, len(b.man.files)))
			}
			continue
		}
		if i >= len(b.man.files) || b.man.files[i].name != f.name {
			b.add(inFile(f, "%s is not where the manifest has it: a file was added, dropped or moved", f.name))
			return
		}
		want := b.man.files[i]
		if want.size == f.size && (f.name == recordsName || f.name == csvName) {
			continue
		}
		h := sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(b.r, f.offset, f.size)); err != nil {
			b.add(inFile(f, "cannot read: %v", err))
		} else if want.size != f.size || !bytes.Equal(h.Sum(nil), want.hash[:]) {
			b.add(inFile(f, "%s was changed: it is not the file that was exported", f.name))
		}
	}
}

func (b *bundle) readCheckpoint() bool {
	data, f, ok := b.named(checkpointName, maxCheckpointBytes)
	if !ok {
		return false
	}
	cp, key, err := b.openCheckpoint(data)
	if err != nil {
		b.add(inFile(f, "the checkpoint was changed: %v", err))
		return false
	}
	if b.signed && (key.Fingerprint != b.report.Key || cp.Epoch != b.man.epoch || cp.EpochID != b.man.epochID || cp.Size < b.man.to) {
		b.add(inFile(f, "the checkpoint is not the one that the manifest was made for"))
		return false
	}
	b.cp, b.report.Key = cp, key.Fingerprint
	b.report.Size, b.report.Root, b.report.Checkpoint = cp.Size, tlog.Hash(cp.Root).String(), cp.Time
	b.tree = tlog.TileHashReader(tlog.Tree{N: int64(cp.Size), Hash: cp.Root}, bundleTiles{b})
	return true
}

// openCheckpoint verifies a checkpoint by the key that was in force at its size.
func (b *bundle) openCheckpoint(note []byte) (Checkpoint, Key, error) {
	cp, err := ParseCheckpoint(note)
	if err != nil {
		return cp, Key{}, err
	}
	text, key, err := b.ring.open(note, cp.Size)
	if err != nil {
		return cp, key, fmt.Errorf("the log key's signature does not fit it: %w", err)
	}
	if cp.Origin != b.ring.origin || text != cp.Text() {
		return cp, key, errors.New("it is of another log")
	}
	return cp, key, nil
}

// checkHistory proves that the checkpoint continues each earlier one.
func (b *bundle) checkHistory() {
	for _, f := range b.files {
		size, ok := strings.CutPrefix(f.name, historyPrefix)
		if !ok {
			continue
		}
		data, _, ok := b.named(f.name, maxCheckpointBytes)
		if !ok {
			return
		}
		cp, _, err := b.openCheckpoint(data)
		if err != nil || strconv.FormatUint(cp.Size, 10) != size {
			b.add(inFile(f, "%s was changed, or is no checkpoint of this log", f.name))
			return
		}
		if err := b.continues(cp); err != nil {
			b.add(inFile(f, "the checkpoint does not continue %s: %v", f.name, err))
			return
		}
		b.report.History++
	}
}
