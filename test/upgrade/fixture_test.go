package upgrade

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/test/kvnode/wire"
)

// A fixture is the data folder of one test node as a program of that format left
// it, and what it held. UPGRADE_FIXTURE=N makes the one of format N, with the
// program of that format: once, when the format is closed.

const fixtureWrites = 300

// held is what a folder holds.
type held struct {
	Keys  map[string]string `json:"keys"`
	Count int64             `json:"count"`
	Size  uint64            `json:"size"`
	Root  [32]byte          `json:"root"`
}

func (c *cluster) holds(p *process) (h held) {
	c.t.Helper()
	var v wire.View
	c.until("the node is read", func() error {
		return c.post(p, wire.ReadPath, wire.Read{Prefixes: []string{"H/kv/", "S/kv/"}, Counters: []string{"S/kv/count"}, Logs: []string{"work"}}, &v)
	})
	h = held{Keys: map[string]string{}, Count: v.Sums[0], Size: v.Logs["work"].Size, Root: v.Logs["work"].Root}
	for _, item := range v.Items {
		h.Keys[item.Key] = item.Value
	}
	return h
}

// alone is a node without peers on a folder.
func alone(t *testing.T, binary, dir string) (*cluster, *process) {
	c := lone(t)
	p := &process{c: c, id: "n1", dir: dir, listen: freePort(t), binary: binary, found: true}
	c.nodes = append(c.nodes, p)
	p.start()
	c.until("the node serves", p.serves)
	return c, p
}

func TestMakeFixture(t *testing.T) {
	format, err := strconv.Atoi(os.Getenv("UPGRADE_FIXTURE"))
	if err != nil {
		return // made once for each format
	}
	binary := today(t)
	if format < store.Format {
		binary = released(t, format)
	}
	dir := t.TempDir()
	c, p := alone(t, binary, dir)
	if format > 1 {
		if err := c.finalise(p); err != nil {
			t.Fatal(err)
		}
	}
	for i := range fixtureWrites {
		tx := wire.Tx{
			Once: fmt.Sprint("once-", i), Puts: []wire.Put{{Key: fmt.Sprintf("H/kv/%d", i%40), Value: fmt.Sprint("value ", i)}, {Key: "S/kv/last", Value: fmt.Sprint(i)}},
			Appends: []wire.Append{{Log: "work", Leaf: fmt.Sprint("leaf ", i)}}, Adds: []wire.Add{{Counter: "S/kv/count", Delta: 1, Limit: 1 << 40}},
		}
		if i%7 == 0 {
			tx.Deletes = []string{fmt.Sprintf("H/kv/%d", (i+3)%40)}
		}
		if err := c.post(p, wire.TxPath, tx, nil); err != nil {
			t.Fatal(err)
		}
	}
	h := c.holds(p)
	p.end(syscall.SIGTERM)
	b, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join("testdata", fmt.Sprintf("format-%d", format))
	if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(name+".json", append(b, '\n'), 0o644), pack(dir, name+".tar.gz")); err != nil {
		t.Fatal(err)
	}
}

// TestDataOfEveryFormatOpens with today's program, holds what it held, and takes
// writes.
func TestDataOfEveryFormatOpens(t *testing.T) {
	all, err := filepath.Glob(filepath.Join("testdata", "format-*.tar.gz"))
	if err != nil || len(all) < store.Format-1 {
		t.Fatalf("%d folders of %d formats before today's (%v)", len(all), store.Format-1, err)
	}
	binary := today(t)
	for _, path := range all {
		t.Run(filepath.Base(path), func(t *testing.T) {
			b, err := os.ReadFile(strings.TrimSuffix(path, ".tar.gz") + ".json")
			if err != nil {
				t.Fatal(err)
			}
			var want held
			if err := json.Unmarshal(b, &want); err != nil || len(want.Keys) < 20 || want.Size != fixtureWrites {
				t.Fatalf("%d keys, %d records, %v", len(want.Keys), want.Size, err)
			}
			dir := t.TempDir()
			if err := unpackFile(path, dir); err != nil {
				t.Fatal(err)
			}
			c, p := alone(t, binary, dir)
			for range 2 { // also after it was written to and finalised
				got := c.holds(p)
				for k, v := range want.Keys {
					if got.Keys[k] != v {
						t.Errorf("key %s holds %q, it held %q", k, got.Keys[k], v)
					}
				}
				if len(got.Keys) != len(want.Keys) || got.Count != want.Count || got.Size != want.Size || got.Root != want.Root {
					t.Errorf("%d keys, count %d, %d records; there were %d, %d, %d", len(got.Keys), got.Count, got.Size, len(want.Keys), want.Count, want.Size)
				}
				if err := c.finalise(p); err != nil {
					t.Fatal(err)
				}
				if err := c.post(p, wire.TxPath, wire.Tx{Puts: []wire.Put{{Key: "H/kv/0", Value: "new"}}}, nil); err != nil {
					t.Fatal(err)
				}
				want.Keys["H/kv/0"] = "new"
				p.end(syscall.SIGTERM)
				p.start()
				c.until("the node serves again", p.serves)
			}
		})
	}
}

// pack writes a folder's files; what is empty in them costs nothing.
func pack(dir, to string) (err error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	w := tar.NewWriter(z)
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		h := &tar.Header{Name: name, Mode: 0o600, Size: int64(len(content)), Typeflag: tar.TypeReg}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
	if err = errors.Join(err, w.Close(), z.Close()); err != nil {
		return err
	}
	return os.WriteFile(to, b.Bytes(), 0o644)
}

func unpackFile(path, to string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	r := tar.NewReader(z)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		target := filepath.Join(to, filepath.Clean("/"+h.Name))
		content, err := io.ReadAll(r)
		if err == nil {
			err = errors.Join(os.MkdirAll(filepath.Dir(target), 0o700), os.WriteFile(target, content, 0o600))
		}
		if err != nil {
			return err
		}
	}
}
