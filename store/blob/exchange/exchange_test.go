package exchange_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/blob/blobtest"
	"github.com/cloister-os/cloister/store/blob/exchange"
)

// nodes are three nodes, a, b and c; a blob put at one is at no other.
type nodes struct {
	a, b, c *blobtest.Node
	dirs    map[string]string
}

func three(t *testing.T) nodes {
	t.Helper()
	net, dirs := blobtest.NewNetwork(), map[string]string{}
	add := func(name string) *blobtest.Node {
		dirs[name] = t.TempDir()
		n := net.Add(t, name, dirs[name])
		n.Handle(exchange.NewServer(exchange.ServerConfig{Store: n.Blobs, Caller: blobtest.Caller}))
		return n
	}
	return nodes{add("a"), add("b"), add("c"), dirs}
}

func random(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b)
	return b
}

func put(t *testing.T, b []byte, at ...*blobtest.Node) (h blob.Hash) {
	t.Helper()
	for _, n := range at {
		var err error
		if h, err = n.Blobs.PutBytes(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func wants(t *testing.T, n *blobtest.Node, h blob.Hash, b []byte) {
	t.Helper()
	got, err := n.Blobs.Read(h, 1<<30)
	if err != nil || !bytes.Equal(got, b) {
		t.Errorf("node %s holds %d bytes of %d: %v", n.Name, len(got), len(b), err)
	}
}

const large = 5*blob.ChunkBytes/2 + 17 // three chunks

func TestAPullBringsEverySize(t *testing.T) {
	n := three(t)
	for i, size := range []int{0, 1, 70_000, blob.ChunkBytes, blob.ChunkBytes + 1, large} {
		b := random(size, uint64(i))
		h := put(t, b, n.a)
		var last atomic.Int64
		if err := n.b.Exchange.Pull(t.Context(), n.b.Blobs, h, nil, func(done, total int64) {
			if total != int64(size) || done > total {
				t.Errorf("%d of %d bytes of %d", done, total, size)
			}
			last.Store(max(last.Load(), done))
		}); err != nil {
			t.Fatal(err)
		}
		wants(t, n.b, h, b)
		if last.Load() != int64(size) {
			t.Errorf("progress ended at %d of %d", last.Load(), size)
		}
	}
}

func TestWhatIsNowhereIsOneSentence(t *testing.T) {
	n := three(t)
	err := n.a.Exchange.Pull(t.Context(), n.a.Blobs, blob.Hash{7}, nil, nil)
	if !errors.Is(err, exchange.ErrNowhere) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%q", err)
	}
	if _, err := n.a.Exchange.Stream(t.Context(), blob.Hash{7}, nil, 1<<40); !errors.Is(err, exchange.ErrNowhere) {
		t.Errorf("%q", err)
	}
}

// cut answers n chunk requests and then breaks every connection off in the middle
// of a chunk.
func cut(n int64) func(http.ResponseWriter, *http.Request, http.Handler) {
	var left atomic.Int64
	left.Store(n)
	return func(w http.ResponseWriter, r *http.Request, right http.Handler) {
		if r.Header.Get("Range") == "" || left.Add(-1) >= 0 {
			right.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(blob.ChunkBytes))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(make([]byte, 1000))
		panic(http.ErrAbortHandler)
	}
}

func TestACutPullGoesOnWhereItStopped(t *testing.T) {
	n := three(t)
	b := random(large, 1)
	h := put(t, b, n.a)
	n.a.Misbehave(cut(1))
	if err := n.b.Exchange.Pull(t.Context(), n.b.Blobs, h, nil, nil); err == nil {
		t.Fatal("a pull that was cut succeeded")
	}
	// The process dies and another opens the folder.
	blobs, err := blob.Open(n.dirs["b"])
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	n.a.Misbehave(func(w http.ResponseWriter, r *http.Request, right http.Handler) {
		if r.Header.Get("Range") != "" {
			asked.Add(1)
		}
		right.ServeHTTP(w, r)
	})
	if err := n.b.Exchange.Pull(t.Context(), blobs, h, nil, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := blobs.Read(h, 1<<30); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if asked.Load() != 2 {
		t.Errorf("%d chunks were asked for after the first had come, want 2", asked.Load())
	}
	if left, _ := filepath.Glob(filepath.Join(n.dirs["b"], "part", "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAnotherHolderIsAskedWhenOneBreaksOff(t *testing.T) {
	n := three(t)
	b := random(large, 2)
	h := put(t, b, n.a, n.b)
	n.a.Misbehave(cut(1))
	if err := n.c.Exchange.Pull(t.Context(), n.c.Blobs, h, []string{"a"}, nil); err != nil {
		t.Fatal(err)
	}
	wants(t, n.c, h, b)
}

func TestWhoSendsWrongBytesIsNotAskedAgain(t *testing.T) {
	lies := map[string]func(w http.ResponseWriter, r *http.Request, right http.Handler){
		"another byte": func(w http.ResponseWriter, r *http.Request, right http.Handler) {
			right.ServeHTTP(flip{w}, r)
		},
		"more than promised": func(w http.ResponseWriter, r *http.Request, right http.Handler) {
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(random(blob.ChunkBytes+1, 9))
		},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			n := three(t)
			b := random(large, 3)
			h := put(t, b, n.a, n.b)
			var doubted, asked atomic.Int64
			n.a.Misbehave(func(w http.ResponseWriter, r *http.Request, right http.Handler) {
				switch {
				case strings.HasSuffix(r.URL.Path, "/doubt"):
					doubted.Add(1)
				case r.Header.Get("Range") != "":
					asked.Add(1)
					lie(w, r, right)
					return
				}
				right.ServeHTTP(w, r)
			})
			if err := n.c.Exchange.Pull(t.Context(), n.c.Blobs, h, []string{"a"}, nil); err != nil {
				t.Fatal(err)
			}
			wants(t, n.c, h, b)
			if asked.Load() == 0 || asked.Load() > 4 { // the chunks that were under way at once
				t.Errorf("the liar was asked %d times", asked.Load())
			}
			asked.Store(0)
			if err := errors.Join(n.c.Blobs.Delete(h), n.c.Exchange.Pull(t.Context(), n.c.Blobs, h, []string{"a"}, nil)); err != nil {
				t.Fatal(err)
			}
			if asked.Load() != 0 {
				t.Errorf("the liar was asked %d times later", asked.Load())
			}
		})
	}
}

// flip changes one bit of every write.
type flip struct{ http.ResponseWriter }

func (f flip) Write(b []byte) (int, error) {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return f.ResponseWriter.Write(b)
}

func TestAWrongListIsFoundOut(t *testing.T) {
	n := three(t)
	b, other := random(large, 4), random(large, 5)
	h := put(t, b, n.a, n.b)
	liar, err := blob.ChunksOf(put(t, other, n.a), bytes.NewReader(other))
	if err != nil {
		t.Fatal(err)
	}
	n.a.Misbehave(func(w http.ResponseWriter, r *http.Request, right http.Handler) {
		if strings.HasSuffix(r.URL.Path, h.String()+"/chunks") {
			fmt.Fprintf(w, `{"size":%d,"hashes":["%s","%s","%s"]}`, liar.Size, liar.Hashes[0], liar.Hashes[1], liar.Hashes[2])
			return
		}
		if r.Header.Get("Range") != "" { // and bytes that match it
			r.SetPathValue("hash", "")
			r.URL.Path = exchange.Prefix + put(t, other, n.a).String()
		}
		right.ServeHTTP(w, r)
	})
	if err := n.c.Exchange.Pull(t.Context(), n.c.Blobs, h, []string{"a"}, nil); err != nil {
		t.Fatal(err)
	}
	wants(t, n.c, h, b)
}

func TestAListThatCannotBeIsRefused(t *testing.T) {
	n := three(t)
	h := blob.Hash{9}
	for _, list := range []string{`{"size":9e15,"hashes":[]}`, `{"size":10,"hashes":[]}`, `{"size":-1,"hashes":[]}`, `not JSON`, `{"size":999999999999,"hashes":["` + h.String() + `"]}`} {
		n.a.Misbehave(func(w http.ResponseWriter, r *http.Request, right http.Handler) { fmt.Fprint(w, list) })
		if s, err := n.b.Exchange.Stream(t.Context(), h, []string{"a"}, 1<<40); err == nil {
			t.Errorf("%s was taken for a blob of %d bytes", list, s.Size())
		}
	}
}

func TestADamagedCopyIsNotGiven(t *testing.T) {
	n := three(t)
	b := random(large, 6)
	h := put(t, b, n.a, n.b)
	damage(t, n.dirs["a"], h)
	if err := n.c.Exchange.Pull(t.Context(), n.c.Blobs, h, []string{"a"}, nil); err != nil {
		t.Fatal(err)
	}
	wants(t, n.c, h, b)
}

func TestManySmallBlobsGoInOneRequest(t *testing.T) {
	n := three(t)
	var requests atomic.Int64
	n.b.Misbehave(func(w http.ResponseWriter, r *http.Request, right http.Handler) {
		requests.Add(1)
		right.ServeHTTP(w, r)
	})
	var items []exchange.Item
	var hashes []blob.Hash
	for i := range 200 {
		b := random(100+i, uint64(i))
		h := put(t, b, n.a)
		items, hashes = append(items, exchange.Item{Hash: h, Size: int64(len(b))}), append(hashes, h)
	}
	held, err := n.a.Exchange.Push(t.Context(), "b", n.a.Blobs, items)
	if err != nil || len(held) != len(items) || requests.Load() != 1 {
		t.Fatalf("%d of %d are held after %d requests: %v", len(held), len(items), requests.Load(), err)
	}
	absent := blob.Hash{1}
	came := map[blob.Hash]int{}
	missing, alone, err := n.c.Exchange.Batch(t.Context(), "b", append([]blob.Hash{absent}, hashes...), func(h blob.Hash, b []byte) error {
		came[h] = len(b)
		return nil
	})
	if err != nil || len(came) != len(items) || len(missing) != 1 || missing[0] != absent || len(alone) != 0 || requests.Load() != 2 {
		t.Errorf("%d came, %v missing, %v alone, %d requests: %v", len(came), missing, alone, requests.Load(), err)
	}
}

func TestAPushThatIsNotAsPromisedIsRefused(t *testing.T) {
	n := three(t)
	h := blob.Hash{1}
	for name, body := range map[string][]byte{
		"wrong bytes":   frame(h, 3, "abc"),
		"cut":           frame(h, 10, "abc"),
		"a huge length": frame(h, 2<<30, "abc"),
		"half a head":   h[:20],
	} {
		res, err := n.a.Client().Post("https://b"+exchange.Prefix+"push", "", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if res.StatusCode == http.StatusOK && !bytes.Equal(answer, []byte{0}) || n.b.Blobs.Has(h) {
			t.Errorf("%s: %d %q", name, res.StatusCode, answer)
		}
	}
}

func TestAFullDiskTakesNothing(t *testing.T) {
	n := three(t)
	full := errors.New("the disk is full: free some space")
	n.b.Blobs.Reserve(func() error { return full })
	for i, size := range []int{1000, large} {
		b := random(size, uint64(i))
		h := put(t, b, n.a)
		if err := n.b.Exchange.Pull(t.Context(), n.b.Blobs, h, nil, nil); !errors.Is(err, full) {
			t.Errorf("a pull of %d bytes: %v", size, err)
		}
		if size == 1000 {
			held, err := n.a.Exchange.Push(t.Context(), "b", n.a.Blobs, []exchange.Item{{Hash: h, Size: int64(size)}})
			if len(held) > 0 || err != nil {
				t.Errorf("a push: %v, %v", held, err)
			}
		}
		if n.b.Blobs.Has(h) {
			t.Error("it is there")
		}
	}
}

func TestOthersAreServedWhenManyAsk(t *testing.T) {
	n := three(t)
	b := random(5000, 1)
	h := put(t, b, n.a)
	var all sync.WaitGroup
	var refused atomic.Int64
	for range 100 {
		all.Go(func() {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://a"+exchange.Prefix+h.String(), nil)
			req.Header.Set("Range", "bytes=0-4999")
			res, err := n.b.Client().Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			got, err := io.ReadAll(res.Body)
			res.Body.Close()
			switch {
			case res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") != "":
				refused.Add(1)
			case err != nil || !bytes.Equal(got, b):
				t.Errorf("%s, %d bytes, %v", res.Status, len(got), err)
			}
		})
	}
	all.Wait()
	if refused.Load() == 100 {
		t.Error("nobody was served")
	}
}

func frame(h blob.Hash, length uint64, text string) []byte {
	b := append(h[:], 0, 0, 0, 0, byte(length>>24), byte(length>>16), byte(length>>8), byte(length))
	return append(b, text...)
}

func TestAStreamGoesOnFromAnotherNodeAndSeeks(t *testing.T) {
	n := three(t)
	b := random(large, 8)
	h := put(t, b, n.a, n.b)
	n.a.Misbehave(cut(1))
	s, err := n.c.Exchange.Stream(t.Context(), h, []string{"a"}, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, b) || s.Size() != large {
		t.Errorf("%d bytes of %d, %v", len(got), s.Size(), err)
	}
	for _, at := range []int64{blob.ChunkBytes - 3, 0, large, large - 1} {
		if _, err := s.Seek(at, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(rest, b[at:]) {
			t.Errorf("from %d: %d bytes, %v", at, len(rest), err)
		}
	}
}

func TestAPullEndsWithItsContext(t *testing.T) {
	n := three(t)
	h := put(t, random(large, 10), n.a)
	ctx, cancel := context.WithCancel(t.Context())
	var once sync.Once
	n.a.Misbehave(func(w http.ResponseWriter, r *http.Request, right http.Handler) {
		if r.Header.Get("Range") != "" {
			once.Do(cancel)
			<-r.Context().Done()
			return
		}
		right.ServeHTTP(w, r)
	})
	if err := n.b.Exchange.Pull(ctx, n.b.Blobs, h, nil, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
