package sim

import (
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/cloister-os/cloister/store"
)

// spell lists all that a snapshot shows of the databases asked for. State keys of
// the past are not promised.
func spell(s store.Snapshot, state bool) (string, error) {
	var out strings.Builder
	fmt.Fprintln(&out, "time", s.Time().UnixNano())
	spaces := []store.Key{"H/"}
	if state {
		spaces = append(spaces, "S/")
	}
	for _, space := range spaces {
		n := 0
		for item, err := range s.Scan(space, "") {
			if err != nil {
				return "", err
			}
			n++
			fmt.Fprintf(&out, "%q %d %q\n", item.Key, item.Version, item.Value)
		}
		for _, err := range s.ScanBack(space, "") {
			if err != nil {
				return "", err
			}
			n--
		}
		fmt.Fprintln(&out, "backwards as many but", n)
		for i := range 2 {
			for _, w := range windows {
				sum, err := s.Sum(store.Key(fmt.Sprint(string(space), "n/", i)), w)
				if err != nil {
					return "", err
				}
				fmt.Fprintln(&out, "counter", space, i, w, sum)
			}
		}
	}
	for i := range logNames {
		if err := spellLog(&out, s.Log(logName(i))); err != nil {
			return "", fmt.Errorf("log %d: %w", i, err)
		}
	}
	return out.String(), nil
}

func spellLog(out *strings.Builder, l store.Log) error {
	root, err := l.Root()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "log of %d: %x\n", l.Size(), root)
	for leaf, err := range l.Leaves(0) {
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%d %d %d %q\n", leaf.Seq, leaf.Version, leaf.Time.UnixNano(), leaf.Data)
	}
	hashes := make([]int64, tlog.StoredHashIndex(0, int64(l.Size())))
	for i := range hashes {
		hashes[i] = int64(i)
	}
	got, err := l.Hashes(hashes)
	fmt.Fprintf(out, "hashes %x\n", got)
	return err
}

// consistent proves that a log of an earlier root has only grown.
func consistent(l store.Log, size uint64, root [32]byte) error {
	if l.Size() < size {
		return fmt.Errorf("it has %d leaves and had %d", l.Size(), size)
	}
	now, err := l.Root()
	if err != nil || size == 0 {
		return err
	}
	proof, err := tlog.ProveTree(int64(l.Size()), int64(size), reader{l})
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, int64(l.Size()), tlog.Hash(now), int64(size), tlog.Hash(root))
}

// reader implements tlog.HashReader.
type reader struct{ store.Log }

// ReadHashes implements tlog.HashReader.
func (r reader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hs, err := r.Hashes(indexes)
	out := make([]tlog.Hash, len(hs))
	for i, h := range hs {
		out[i] = h
	}
	return out, err
}

// differ shows where two spellings part.
func differ(a, b string) string {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range as {
		if i >= len(bs) || as[i] != bs[i] {
			return fmt.Sprintf("line %d: %q where %q belongs", i, as[i], strings.Join(bs[min(i, len(bs)):min(i+1, len(bs))], ""))
		}
	}
	return fmt.Sprintf("it ends %d lines too early", len(bs)-len(as))
}
