package disk

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/ristretto/v2/z"

	"github.com/cloister-os/cloister/store/machine/kv"
)

// loader fills the databases of a pair that nobody else uses: what it writes is not
// atomic, which nobody can see, since the generation is not current.
type loader [2]*filler

// Load implements kv.Pair.
func (p *pair) Load() kv.Loader {
	l := loader{}
	for i, db := range p.dbs {
		l[i] = &filler{db: db}
	}
	return l
}

// Add implements kv.Loader.
func (l loader) Add(db int, version uint64, w kv.Write) error { return l[db].add(version, w) }

// Finish implements kv.Loader.
func (l loader) Finish() error { return errors.Join(l[0].finish(), l[1].finish()) }

// Abort implements kv.Loader.
func (l loader) Abort() {
	for _, f := range l {
		f.abort()
	}
}

// filler fills one database. For as long as keys come in their order they become
// tables at once, one after the other; what comes after them (a stage composed of
// several) goes through memtables and compactions like any write.
type filler struct {
	db     *badger.DB
	stream *badger.StreamWriter
	buffer *z.Buffer // for the stream, at most bufferBytes and one record
	key    []byte    // the last of the stream, and its version
	at     uint64
	batch  *badger.WriteBatch // after the stream
}

const (
	bufferBytes = 1 << 20
	// deletedMeta is Badger's mark of a key's end.
	deletedMeta = 1
)

func (f *filler) add(version uint64, w kv.Write) error {
	if f.batch == nil && f.stream == nil {
		f.stream = f.db.NewStreamWriter()
		if err := f.stream.Prepare(); err != nil {
			return fmt.Errorf("fill a database: %w", err)
		}
		f.buffer = z.NewBuffer(bufferBytes, "restore")
	}
	if f.batch == nil && f.key != nil {
		if c := bytes.Compare(w.Key, f.key); c < 0 || c == 0 && version >= f.at {
			if err := f.endStream(); err != nil {
				return err
			}
			f.batch = f.db.NewManagedWriteBatch()
		}
	}
	if f.batch == nil {
		return f.send(version, w)
	}
	key := bytes.Clone(w.Key)
	if w.Deleted {
		return f.batch.DeleteAt(key, version)
	}
	return f.batch.SetEntryAt(badger.NewEntry(key, bytes.Clone(w.Value)), version)
}

// send gives the stream one record.
func (f *filler) send(version uint64, w kv.Write) error {
	f.key, f.at = append(f.key[:0], w.Key...), version
	rec := &pb.KV{Key: w.Key, Value: w.Value, Version: version, StreamId: 1}
	if w.Deleted {
		rec.Meta = []byte{deletedMeta}
	}
	badger.KVToBuffer(rec, f.buffer)
	if f.buffer.LenNoPadding() < bufferBytes {
		return nil
	}
	return f.drain()
}

func (f *filler) drain() error {
	err := f.stream.Write(f.buffer)
	f.buffer.Reset()
	return err
}

// endStream makes what the stream holds tables.
func (f *filler) endStream() error {
	err := f.drain()
	if err == nil {
		err = f.stream.Flush()
	} else {
		f.stream.Cancel()
	}
	f.stream = nil
	return errors.Join(err, f.buffer.Release())
}

func (f *filler) finish() error {
	switch {
	case f.stream != nil:
		return f.endStream()
	case f.batch != nil:
		b := f.batch
		f.batch = nil
		return b.Flush()
	}
	return nil
}

func (f *filler) abort() {
	if f.stream != nil {
		f.stream.Cancel()
		_ = f.buffer.Release() // memory alone
		f.stream = nil
	}
	if f.batch != nil {
		f.batch.Cancel()
		f.batch = nil
	}
}
