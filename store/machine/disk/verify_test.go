package disk

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cloister-os/cloister/store/machine/kv"
	"github.com/cloister-os/cloister/store/sealed"
)

// filled opens a pair whose databases have tables, and returns those of one.
func filled(t *testing.T, ring sealed.Ring, db int) (*pair, []string) {
	t.Helper()
	v := New(Config{Dir: t.TempDir(), MemtableBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler), Failed: func(error) {}, Ring: ring})
	var p *pair
	for i := range uint64(2) { // each close makes tables
		opened, err := v.Open(1)
		if err != nil {
			t.Fatal(err)
		}
		p = opened.(*pair)
		if i == 1 {
			break
		}
		for n := range uint64(40) {
			value := make([]byte, 20<<10)
			rand.Read(value)
			w := []kv.Write{{Key: fmt.Appendf(nil, "k%d", n), Value: value}}
			if err := p.Commit(n+1, [2][]kv.Write{w, w}); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = p.Close() })
	tables, err := filepath.Glob(filepath.Join(p.dir, names[db], "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("tables %v, %v", tables, err)
	}
	return p, tables
}

// A byte that is not as it was written is found wherever in a table it lies, by an
// open database, whether it is encrypted or not, and with every compression.
func TestARottenByteIsFound(t *testing.T) {
	for _, ring := range []sealed.Ring{nil, newRing(1)} {
		for db := range names {
			p, tables := filled(t, ring, db)
			read := 0
			if err := p.Verify(db, func(n int) error { read += n; return nil }); err != nil || read < 400<<10 {
				t.Fatalf("whole tables: %d bytes, %v", read, err)
			}
			info, err := os.Stat(tables[0])
			if err != nil {
				t.Fatal(err)
			}
			size := info.Size()
			for _, at := range []int64{0, 100, size / 3, size / 2, size - 200, size - 60, size - 20, size - 4, size - 1} {
				flip(t, tables[0], at)
				if err := p.Verify(db, func(int) error { return nil }); !errors.Is(err, ErrRotten) {
					t.Errorf("%s, encrypted %t: byte %d of %d is wrong: %v", names[db], ring != nil, at, size, err)
				}
				flip(t, tables[0], at)
			}
			if err := p.Verify(db, func(int) error { return nil }); err != nil {
				t.Errorf("put right: %v", err)
			}
		}
	}
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err = f.ReadAt(b, at); err == nil {
		b[0] ^= 0x10
		_, err = f.WriteAt(b, at)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What is compacted away while others are verified is not missed, and the file that
// goes while it is read ends nobody; what ends the caller's patience ends the reading.
func TestVerifyGoesOnWhileTablesGo(t *testing.T) {
	p, _ := filled(t, newRing(1), kv.State)
	ended := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		defer close(ended)
		for n := uint64(1000); n < 1400; n++ {
			w := []kv.Write{{Key: fmt.Appendf(nil, "k%d", n%50), Value: make([]byte, 30<<10)}}
			rand.Read(w[0].Value)
			if err := p.Commit(n, [2][]kv.Write{w, nil}); err != nil {
				t.Error(err)
				return
			}
			if n%40 == 0 {
				if err := p.dbs[kv.State].Flatten(2); err != nil {
					t.Error(err)
				}
			}
		}
	})
	defer writer.Wait()
	for read, going := 0, true; going; {
		select {
		case <-ended:
			going = false
		default:
		}
		if err := p.Verify(kv.State, func(n int) error { read += n; return nil }); err != nil {
			t.Fatalf("after %d bytes: %v", read, err)
		}
	}
	ring := p.ring.(*testRing)
	ring.keys[2], ring.active = newRing(2).keys[2], 2
	if err := p.Rekey(); err != nil {
		t.Fatal(err)
	}
	if err := p.Verify(kv.State, func(int) error { return nil }); err != nil {
		t.Errorf("after a change of keys: %v", err)
	}
	enough := errors.New("enough")
	if err := p.Verify(kv.State, func(int) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("the caller's error is lost: %v", err)
	}
}
