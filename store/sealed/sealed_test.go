package sealed

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/iotest"
)

// testRing is a ring whose active key tests may change.
type testRing struct {
	active uint32
	keys   map[uint32][]byte
}

func newRing(ids ...uint32) *testRing {
	r := &testRing{keys: map[uint32][]byte{}}
	for _, id := range ids {
		k := make([]byte, 32)
		random(k)
		r.keys[id], r.active = k, id
	}
	return r
}

func (r *testRing) Active() (uint32, []byte)     { return r.active, r.keys[r.active] }
func (r *testRing) Key(id uint32) ([]byte, bool) { k, ok := r.keys[id]; return k, ok }
func seal(t testing.TB, r Ring, aad, p []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, r, aad)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, iotest.OneByteReader(bytes.NewReader(p[:min(len(p), 10)]))); err != nil {
		t.Fatal(err)
	}
	if n, err := w.Write(p[min(len(p), 10):]); err != nil || n != len(p)-min(len(p), 10) {
		t.Fatal(n, err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func open(r Ring, aad, sealed []byte) ([]byte, error) {
	f, err := NewReader(bytes.NewReader(sealed), int64(len(sealed)), r, aad)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}

func bytesOf(n int) []byte {
	p := make([]byte, n)
	rand.Read(p)
	return p
}

var sizes = []int{0, 1, 10, 11, 1000, chunkPlain - 1, chunkPlain, chunkPlain + 1, 2*chunkPlain - 1, 2 * chunkPlain, 3*chunkPlain + 77}

// sealRecord and openRecord are a box used once.
func sealRecord(ring Ring, aad, plain []byte) ([]byte, error) {
	return NewBox(ring, "record").Seal(nil, aad, plain)
}

func openRecord(ring Ring, aad, sealed []byte) ([]byte, error) {
	return NewBox(ring, "record").Open(nil, aad, sealed)
}

func TestRecordsComeBack(t *testing.T) {
	ring := newRing(1, 7)
	box := NewBox(ring, "test")
	for _, n := range sizes {
		p := bytesOf(n)
		s, err := box.Seal([]byte("before"), []byte("aad"), p)
		if err != nil {
			t.Fatal(err)
		}
		rec := s[len("before"):]
		if string(s[:6]) != "before" || len(rec) != n+RecordOverhead || RecordKey(rec) != 7 {
			t.Errorf("%d bytes: %d sealed by key %d", n, len(rec), RecordKey(rec))
		}
		got, err := NewBox(ring, "test").Open([]byte("x"), []byte("aad"), rec)
		if err != nil || !bytes.Equal(got[1:], p) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if _, err := NewBox(ring, "other").Open(nil, []byte("aad"), rec); !errors.Is(err, ErrDamaged) {
			t.Errorf("opened for another purpose: %v", err)
		}
	}
}

func TestAChangedRecordIsRefused(t *testing.T) {
	ring := newRing(1)
	p := []byte("the canary sings")
	rec, err := sealRecord(ring, []byte("aad"), p)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(rec, []byte("canary")) {
		t.Error("plaintext in a record")
	}
	for i := range rec {
		bad := bytes.Clone(rec)
		bad[i] ^= 0x10
		if _, err := openRecord(ring, []byte("aad"), bad); err == nil {
			t.Errorf("byte %d changed: opened", i)
		}
		if _, err := openRecord(ring, []byte("aad"), rec[:i]); err == nil {
			t.Errorf("cut at %d: opened", i)
		}
	}
	if _, err := openRecord(ring, []byte("other"), rec); !errors.Is(err, ErrDamaged) {
		t.Errorf("moved: %v", err)
	}
	if _, err := openRecord(newRing(1), []byte("aad"), rec); !errors.Is(err, ErrDamaged) {
		t.Errorf("another node's: %v", err)
	}
	if _, err := openRecord(newRing(2), []byte("aad"), rec); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("unknown key: %v", err)
	}
}

func TestABoxFollowsTheActiveKey(t *testing.T) {
	ring := newRing(1, 2)
	box := NewBox(ring, "test")
	ring.active = 1
	old, err := box.Seal(nil, nil, []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	ring.active = 2
	fresh, err := box.Seal(nil, nil, []byte("b"))
	if err != nil || RecordKey(old) != 1 || RecordKey(fresh) != 2 {
		t.Fatal(RecordKey(old), RecordKey(fresh), err)
	}
	for rec, want := range map[string]string{string(old): "a", string(fresh): "b"} {
		if got, err := box.Open(nil, nil, []byte(rec)); err != nil || string(got) != want {
			t.Errorf("%q %v", got, err)
		}
	}
	delete(ring.keys, 1)
	if _, err := box.Open(nil, nil, old); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("a key that was dropped still opens: %v", err)
	}
}

func TestABoxSealsInParallelWithoutRepeatingItself(t *testing.T) {
	box := NewBox(newRing(1), "test")
	var mu sync.Mutex
	seen := map[string]bool{}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				rec, err := box.Seal(nil, nil, []byte("same"))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				seen[string(rec)] = true
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(seen) != 1600 {
		t.Errorf("%d different records of 1600", len(seen))
	}
}

func TestFilesComeBack(t *testing.T) {
	ring := newRing(3)
	for _, n := range sizes {
		p := bytesOf(n)
		s := seal(t, ring, []byte("name"), p)
		if got, err := PlainSize(ring, int64(len(s))); err != nil || got != int64(n) {
			t.Errorf("%d bytes: %d, %v", n, got, err)
		}
		got, err := open(ring, []byte("name"), s)
		if err != nil || !bytes.Equal(got, p) {
			t.Errorf("%d bytes: %v", n, err)
		}
		f, err := NewReader(bytes.NewReader(s), int64(len(s)), ring, []byte("name"))
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(f, p); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
		if _, err := f.Seek(int64(n/2), io.SeekStart); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := f.WriteTo(&b); err != nil || !bytes.Equal(b.Bytes(), p[n/2:]) {
			t.Errorf("%d bytes from the middle: %v", n, err)
		}
		if id, err := FileKey(bytes.NewReader(s)); err != nil || id != 3 {
			t.Errorf("key %d %v", id, err)
		}
	}
}

func TestAFileCannotBeCutReorderedOrExtended(t *testing.T) {
	ring := newRing(1)
	p := bytesOf(3*chunkPlain + 100)
	s := seal(t, ring, []byte("a"), p)
	chunk := func(i int) []byte { return s[headBytes+i*chunkBytes : min(len(s), headBytes+(i+1)*chunkBytes)] }
	join := func(parts ...[]byte) []byte { return bytes.Join(append([][]byte{s[:headBytes]}, parts...), nil) }
	for name, bad := range map[string][]byte{
		"cut at a chunk":  join(chunk(0), chunk(1), chunk(2)),
		"cut to one":      join(chunk(0)),
		"cut to the head": join(),
		"cut in a chunk":  s[:len(s)-1],
		"no head":         s[headBytes:],
		"reordered":       join(chunk(1), chunk(0), chunk(2), chunk(3)),
		"repeated":        join(chunk(0), chunk(0), chunk(1), chunk(2), chunk(3)),
		"longer":          append(bytes.Clone(s), 0),
		"twice":           join(chunk(0), chunk(1), chunk(2), chunk(3), chunk(3)),
		"empty":           {},
	} {
		if _, err := open(ring, []byte("a"), bad); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if _, err := open(ring, []byte("b"), s); !errors.Is(err, ErrDamaged) {
		t.Errorf("under another name: %v", err)
	}
	if _, err := open(newRing(1), []byte("a"), s); !errors.Is(err, ErrDamaged) {
		t.Errorf("another node's: %v", err)
	}
	if _, err := open(newRing(9), []byte("a"), s); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("unknown key: %v", err)
	}
	if _, err := open(ring, []byte("a"), p); !errors.Is(err, ErrNotSealed) {
		t.Errorf("plain: %v", err)
	}
	for i := 0; i < len(s); i += 4099 {
		bad := bytes.Clone(s)
		bad[i] ^= 1
		if _, err := open(ring, []byte("a"), bad); err == nil {
			t.Errorf("byte %d changed: opened", i)
		}
	}
}

// TestAFileIsReadInPartsThatAreWhole damages one chunk: the others stay readable.
func TestAFileIsReadInPartsThatAreWhole(t *testing.T) {
	ring := newRing(1)
	p := bytesOf(3 * chunkPlain)
	s := seal(t, ring, nil, p)
	s[headBytes+chunkBytes+50] ^= 1
	f, err := NewReader(bytes.NewReader(s), int64(len(s)), ring, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 100)
	for at, good := range map[int64]bool{0: true, chunkPlain - 100: true, chunkPlain - 50: false, chunkPlain: false, 2 * chunkPlain: true, 3*chunkPlain - 100: true} {
		n, err := f.ReadAt(got, at)
		if (err == nil) != good || !bytes.Equal(got[:n], p[at:at+int64(n)]) {
			t.Errorf("at %d: %d bytes, %v", at, n, err)
		}
	}
}

func TestWithoutARingEverythingIsPlain(t *testing.T) {
	p := []byte("the canary sings")
	if s := seal(t, nil, []byte("a"), p); !bytes.Equal(s, p) {
		t.Errorf("%q", s)
	}
	if got, err := open(nil, nil, p); err != nil || !bytes.Equal(got, p) {
		t.Errorf("%q %v", got, err)
	}
	if rec, err := sealRecord(nil, nil, p); err != nil || !bytes.Equal(rec, p) {
		t.Errorf("%q %v", rec, err)
	}
}

func FuzzOpen(f *testing.F) {
	ring := newRing(1)
	f.Add(seal(f, ring, nil, []byte("hello")))
	rec, _ := sealRecord(ring, nil, []byte("hello"))
	f.Add(rec)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := open(ring, []byte("never"), b); err == nil {
			t.Errorf("opened %q", got)
		}
		if got, err := openRecord(ring, []byte("never"), b); err == nil {
			t.Errorf("opened %q", got)
		}
	})
}

func FuzzFile(f *testing.F) {
	ring := newRing(1)
	f.Add([]byte("hello"), uint(3), uint(2))
	f.Fuzz(func(t *testing.T, p []byte, repeat, at uint) {
		p = bytes.Repeat(p, int(repeat%9000)+1)
		if len(p) > 4<<20 {
			return
		}
		s := seal(t, ring, p[:min(3, len(p))], p)
		r, err := NewReader(bytes.NewReader(s), int64(len(s)), ring, p[:min(3, len(p))])
		if err != nil || r.Size() != int64(len(p)) {
			t.Fatal(err)
		}
		if len(p) == 0 {
			return
		}
		from := int(at % uint(len(p)))
		got := make([]byte, len(p)-from)
		if _, err := r.ReadAt(got, int64(from)); err != nil || !bytes.Equal(got, p[from:]) {
			t.Fatal(err)
		}
		s[int(at)%len(s)] ^= 1
		if _, err := open(ring, p[:min(3, len(p))], s); err == nil {
			t.Fatal("opened what was changed")
		}
	})
}
