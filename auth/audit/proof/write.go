package proof

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"maps"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Names of a bundle's files, in the order they stand. The records come after
// what proves them and the manifest comes last, so that a bundle is written in
// one stream and a damaged one can still be examined from its beginning.
const (
	checkpointName = "checkpoint"
	keysName       = "keys.json"
	historyPrefix  = "checkpoints/"
	recordsName    = "records.jsonl"
	digestsName    = "records.digests"
	csvName        = "records.csv"
	openingsName   = "openings.jsonl"
	reportName     = "report.html"
	policiesPrefix = "policies/"
	manifestName   = "manifest"
)

// digestBytes is what records.digests holds of each line's SHA-256. It only
// helps to say which line was changed; that one was, the manifest's hash proves.
const digestBytes = 8

// Bounds of what is held in memory at once.
const (
	maxSmallBytes   = 1 << 20
	maxOpeningBytes = 64 << 20
	// MaxRecords is how many records a bundle can hold: writing one takes
	// digestBytes of memory for each.
	MaxRecords = 8 << 20
)

// Source is what a bundle is made from.
type Source struct {
	Checkpoint []byte                                // the signed note the range is proven under
	History    [][]byte                              // earlier checkpoints to prove consistent with it
	Keys       []Key                                 // the key history, oldest first
	Epochs     [][]byte                              // the signed statements of all epochs after the first, oldest first
	Cosigned   map[string]Cosignature                // by node: the newest checkpoint that it cosigned
	From, To   uint64                                // the records
	Held       []uint64                              // sizes at which --after must be answerable, beside those in the range
	Hashes     tlog.HashReader                       // the tree, at least up to the checkpoint
	Records    func() iter.Seq2[Line, error]         // the records From to To; called twice, and must say the same
	Openings   func(recordID string) ([]Open, error) // nil = leave them out; called once for each record with personal fields
	Policies   map[string]string                     // text by id
	Sign       func(text string) ([]byte, error)     // signs a note with the key of Checkpoint
}

// Open is the opening of a personal field.
type Open struct {
	Seq   uint64 `json:"seq"`
	Field string `json:"field"`
	Salt  string `json:"salt"` // hex
	Value string `json:"value"`
}

// Write writes the bundle.
func Write(w io.Writer, s Source) error {
	cp, err := ParseCheckpoint(s.Checkpoint)
	if err != nil {
		return err
	}
	if s.From > s.To || s.To > cp.Size {
		return fmt.Errorf("records %d to %d are not in a log of %d", s.From, s.To, cp.Size)
	}
	if s.To-s.From > MaxRecords {
		return fmt.Errorf("a bundle holds at most %d records: export shorter ranges", MaxRecords)
	}
	if len(s.Keys) == 0 {
		return errors.New("a bundle needs the key history")
	}
	buffered := bufio.NewWriterSize(w, 64<<10)
	b := &bundleWriter{
		Source: s, cp: cp, tar: tarWriter{w: buffered},
		manifest: manifest{origin: cp.Origin, epoch: cp.Epoch, epochID: cp.EpochID, from: s.From, to: s.To},
	}
	for _, step := range []func() error{b.proofs, b.records, b.tables, b.report, b.policies, b.seal} {
		if err := step(); err != nil {
			return fmt.Errorf("write the bundle: %w", err)
		}
	}
	return buffered.Flush()
}

type bundleWriter struct {
	Source
	cp       Checkpoint
	tar      tarWriter
	manifest manifest
	hash     hash.Hash
	summary  *summary
	digests  []byte
	openings []byte
}

// begin starts a file; what is written through b until finish is its content.
func (b *bundleWriter) begin(name string, size int64) error {
	b.hash = sha256.New()
	b.manifest.files = append(b.manifest.files, sum{size: size, name: name})
	return b.tar.next(name, size)
}

func (b *bundleWriter) Write(p []byte) (int, error) {
	b.hash.Write(p)
	return b.tar.Write(p)
}

func (b *bundleWriter) finish() { b.hash.Sum(b.manifest.files[len(b.manifest.files)-1].hash[:0]) }

func (b *bundleWriter) small(name string, data []byte) error {
	if err := b.begin(name, int64(len(data))); err != nil {
		return err
	}
	_, err := b.Write(data)
	b.finish()
	return err
}

// proofs writes what the records are proven by.
func (b *bundleWriter) proofs() error {
	keys, err := json.MarshalIndent(b.Keys, "", "  ")
	if err != nil {
		return err
	}
	if err := errors.Join(b.small(checkpointName, b.Checkpoint), b.small(keysName, append(keys, '\n'))); err != nil {
		return err
	}
	sizes := append([]uint64{b.cp.Size, b.From}, b.Held...)
	for _, note := range b.History {
		cp, err := ParseCheckpoint(note)
		if err != nil {
			return err
		}
		if err := b.small(fmt.Sprintf("%s%d", historyPrefix, cp.Size), note); err != nil {
			return err
		}
		sizes = append(sizes, cp.Size)
	}
	more, err := b.statements()
	if err != nil {
		return err
	}
	sizes = append(sizes, more...)
	sizes = slices.DeleteFunc(sizes, func(n uint64) bool { return n > b.cp.Size })
	tree := tlog.Tree{N: int64(b.cp.Size), Hash: b.cp.Root}
	tiles, err := neededTiles(tree, b.Hashes, b.From, b.To, sizes)
	if err != nil {
		return err
	}
	slices.SortFunc(tiles, func(x, y tlog.Tile) int { return slices.Compare([]int64{int64(x.L), x.N}, []int64{int64(y.L), y.N}) })
	for _, t := range tiles {
		data, err := tlog.ReadTileData(t, b.Hashes)
		if err != nil {
			return err
		}
		if err := b.small(tileName(t), data); err != nil {
			return err
		}
	}
	return nil
}

// statements writes what was said of the log beside its checkpoints, and returns
// the sizes that it speaks of.
func (b *bundleWriter) statements() (sizes []uint64, err error) {
	for _, note := range b.Epochs {
		e, err := ParseEpoch(note)
		if err != nil {
			return nil, err
		}
		if err := b.small(fmt.Sprintf("%s%d", epochsPrefix, e.Number), note); err != nil {
			return nil, err
		}
		sizes = append(sizes, e.Size)
	}
	more, err := b.cosigned()
	return append(sizes, more...), err
}

// records goes through the records twice: a tar says a file's size before its
// content.
func (b *bundleWriter) records() error {
	b.summary = newSummary()
	var line, cells []byte
	err := b.each(func(r Line) error {
		l := parseLeaf(r.Leaf)
		line, cells = r.appendTo(line[:0]), appendCSV(cells[:0], r, &l)
		b.summary.jsonBytes += int64(len(line))
		b.summary.csvBytes += int64(len(cells))
		b.summary.add(r, &l)
		if b.Openings == nil || l.personal == nil {
			return nil
		}
		return b.open(r.Seq, string(l.id))
	})
	if err != nil {
		return err
	}
	if err := b.begin(recordsName, b.summary.jsonBytes); err != nil {
		return err
	}
	err = b.each(func(r Line) error {
		line = r.appendTo(line[:0])
		digest := sha256.Sum256(line[:len(line)-1])
		b.digests = append(b.digests, digest[:digestBytes]...)
		_, err := b.Write(line)
		return err
	})
	b.finish()
	return err
}

// each calls f for each record and makes sure that none is missing.
func (b *bundleWriter) each(f func(Line) error) error {
	next := b.From
	if b.From == b.To {
		return nil
	}
	for r, err := range b.Records() {
		if err != nil {
			return err
		}
		if r.Seq != next {
			return fmt.Errorf("the log gave record %d instead of %d", r.Seq, next)
		}
		if err := f(r); err != nil {
			return err
		}
		if next++; next == b.To {
			return nil
		}
	}
	return fmt.Errorf("the log ended at record %d", next)
}

func (b *bundleWriter) open(seq uint64, id string) error {
	opens, err := b.Openings(id)
	if err != nil {
		return err
	}
	for _, o := range opens {
		o.Seq = seq
		line, err := json.Marshal(o)
		if err != nil {
			return err
		}
		b.openings = append(append(b.openings, line...), '\n')
	}
	if len(b.openings) > maxOpeningBytes {
		return fmt.Errorf("the openings of personal fields come to more than %d MiB: export a shorter range", maxOpeningBytes>>20)
	}
	return nil
}

// tables writes what stands beside records.jsonl.
func (b *bundleWriter) tables() error {
	if err := b.small(digestsName, b.digests); err != nil {
		return err
	}
	if err := b.begin(csvName, b.summary.csvBytes); err != nil {
		return err
	}
	if _, err := io.WriteString(b, csvHead); err != nil {
		return err
	}
	var cells []byte
	err := b.each(func(r Line) error {
		l := parseLeaf(r.Leaf)
		cells = appendCSV(cells[:0], r, &l)
		_, err := b.Write(cells)
		return err
	})
	b.finish()
	if err != nil || b.Openings == nil {
		return err
	}
	return b.small(openingsName, b.openings)
}

func (b *bundleWriter) report() error {
	var page bytes.Buffer
	writeReport(&page, reportData{
		cp: b.cp, note: b.Checkpoint, from: b.From, to: b.To, summary: b.summary,
		fingerprint: b.Keys[len(b.Keys)-1].Fingerprint, policies: slices.Sorted(maps.Keys(b.Policies)),
	})
	return b.small(reportName, page.Bytes())
}

func (b *bundleWriter) policies() error {
	for _, id := range slices.Sorted(maps.Keys(b.Policies)) {
		if len(b.Policies[id]) > maxSmallBytes {
			return fmt.Errorf("policy %s is longer than %d bytes", id, maxSmallBytes)
		}
		if err := b.small(policyName(id), []byte(b.Policies[id])); err != nil {
			return err
		}
	}
	return nil
}

// policyName keeps an id that is a plain word; any other is named by its hash
// (the policy's text carries its id).
func policyName(id string) string {
	name := policiesPrefix + id + ".cedar"
	plainWord := !bytes.ContainsAny([]byte(id), "/%") && id[:min(1, len(id))] != "."
	if plainWord && validFileName(name) {
		return name
	}
	return fmt.Sprintf("%s%%%x.cedar", policiesPrefix, sha256.Sum256([]byte(id)))
}

func (b *bundleWriter) seal() error {
	note, err := b.Sign(b.manifest.text())
	if err != nil {
		return err
	}
	if len(note) > maxManifestBytes {
		return errors.New("the manifest would be too large: export a shorter range")
	}
	if err := b.tar.next(manifestName, int64(len(note))); err != nil {
		return err
	}
	if _, err := b.tar.Write(note); err != nil {
		return err
	}
	return b.tar.close()
}
