package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"google.golang.org/protobuf/proto"
)

// repair mends what a power cut can leave in a Badger folder and Badger does not
// open with. tables are those of level 0 that the durable mark vouches for.
func repair(dir string, tables []uint64, log *slog.Logger) error {
	if err := removeEmpty(dir, log); err != nil {
		return err
	}
	return forgetTables(dir, tables, log)
}

// removeEmpty removes files that were created but whose length never reached the
// disk. Nothing in a memtable's file was then under the durable mark, which is
// written only after each of these files is synced; value logs hold nothing.
func removeEmpty(dir string, log *slog.Logger) error {
	for _, pattern := range []string{"*.mem", "*.vlog", "DISCARD"} {
		all, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, p := range all {
			if fi, err := os.Stat(p); err != nil || fi.Size() > 0 {
				continue
			}
			log.Info("removed an empty file left by a power cut", "file", p)
			if err := os.Remove(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// forgetTables takes tables out of the manifest whose files are gone. Badger
// syncs a memtable's table and the manifest when it flushes it, but not the
// folder, so a cut can leave the manifest ahead of the folder. The mark syncs
// the folder: such a table is newer than the mark, and so is the removal of the
// memtable it was made from, which is therefore still there with everything that
// the mark covers. A table that the mark vouches for is another matter, and so is
// one of another level, which Badger makes with the folder synced.
func forgetTables(dir string, tables []uint64, log *slog.Logger) error {
	f, err := os.OpenFile(filepath.Join(dir, badger.ManifestFilename), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	manifest, end, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions(dir))
	if err != nil {
		return err
	}
	var gone []uint64
	for id, t := range manifest.Tables {
		if _, err := os.Stat(table.NewFilename(id, dir)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if t.Level > 0 || slices.Contains(tables, id) {
			return fmt.Errorf("its table %d is missing: restore a backup", id)
		}
		gone = append(gone, id)
	}
	if len(gone) == 0 {
		return nil
	}
	slices.Sort(gone)
	log.Info("forgot tables that a power cut left without a name", "database", dir, "tables", gone)
	return appendManifest(f, end, gone)
}

// appendManifest appends deletions to a manifest that ends at end: a length, a
// checksum and a change set, as Badger's manifest.go writes them.
func appendManifest(f *os.File, end int64, gone []uint64) error {
	var set pb.ManifestChangeSet
	for _, id := range gone {
		set.Changes = append(set.Changes, &pb.ManifestChange{Id: id, Op: pb.ManifestChange_DELETE})
	}
	body, err := proto.Marshal(&set)
	if err != nil {
		return err
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(body, castagnoli))
	if err := f.Truncate(end); err != nil {
		return err
	}
	if _, err := f.WriteAt(append(b, body...), end); err != nil {
		return err
	}
	return f.Sync()
}
