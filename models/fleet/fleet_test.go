package fleet_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/models/fleet"
	"github.com/cloister-os/cloister/models/modelstest"
	"github.com/cloister-os/cloister/models/pack"
	"github.com/cloister-os/cloister/models/registry"
	"github.com/cloister-os/cloister/store/blob/blobtest"
	"github.com/cloister-os/cloister/store/blob/exchange"
)

// cluster is some nodes with an engine each, in one house.
type cluster struct {
	t     *testing.T
	net   *blobtest.Network
	house *guardtest.House
	reg   *registry.Registry
	nodes []*node
}

type node struct {
	*blobtest.Node
	engine *modelstest.Engine
	fleet  *fleet.Fleet
	packs  *pack.Service
	stop   func()
}

func newCluster(t *testing.T, n int, away ...int) *cluster {
	t.Helper()
	c := &cluster{t: t, net: blobtest.NewNetwork(), house: guardtest.Open(t, nil)}
	c.reg = registry.New(c.house.Store)
	for i := range n {
		c.nodes = append(c.nodes, &node{
			Node:   c.net.Add(t, fmt.Sprint("node-", i+1), t.TempDir()),
			engine: &modelstest.Engine{Words: []string{"one ", "two ", fmt.Sprint("from ", i+1)}},
		})
	}
	for i := range c.nodes {
		isAway := false
		for _, a := range away {
			isAway = isAway || a == i
		}
		c.start(i, isAway)
	}
	c.soon("all nodes know of one another", func() bool {
		hosts, err := c.reg.Hosts(t.Context())
		return err == nil && (n == 1 || len(hosts) == n)
	})
	return c
}

func (c *cluster) start(i int, away bool) {
	n, quiet := c.nodes[i], slog.New(slog.DiscardHandler)
	var err error
	n.fleet, err = fleet.New(fleet.Config{
		Node: n.Name, Principal: guardtest.Node(), Engine: n.engine, Registry: c.reg, Peers: n.Node, Exchange: n.Exchange,
		Guard: c.house, Carried: c.house.Carried, Away: away, Logger: quiet,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	n.packs, err = pack.New(pack.Config{Store: c.house.Store, Guard: c.house, Engine: n.engine, Fleet: n.fleet, Temp: c.t.TempDir(), Logger: quiet})
	if err != nil {
		c.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(fleet.Prefix, n.fleet.Handler())
	mux.Handle(exchange.Prefix, exchange.NewServer(exchange.ServerConfig{Store: n.Blobs, Sources: []exchange.Source{n.fleet}, Logger: quiet}))
	n.Handle(mux)
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { _ = n.fleet.Run(ctx) })
	n.stop = sync.OnceFunc(func() { cancel(); ended.Wait() })
	c.t.Cleanup(n.stop)
}

func (c *cluster) soon(what string, f func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("it never came about that %s", what)
		}
	}
}

// imports makes a pack of one model of so many random-looking bytes, and imports
// it on a node.
func (c *cluster) imports(i int, name string, size int) error {
	c.t.Helper()
	return c.importing(c.t.Context(), i, name, size, pack.Options{})
}

func (c *cluster) importing(ctx context.Context, i int, name string, size int, o pack.Options) error {
	_, err := c.nodes[i].packs.Import(ctx, guardtest.Admin(), pack.Source{Reader: bytes.NewReader(packed(c.t, name, size))}, o)
	return err
}

func packed(t *testing.T, name string, size int) []byte {
	t.Helper()
	weights := bytes.Repeat([]byte(name+"!"), size/(len(name)+1)+1)[:size]
	licence := []byte("do as you like")
	files := map[string][]byte{"w.gguf": weights, "LICENCE": licence}
	file := func(path string) pack.File {
		sum := sha256.Sum256(files[path])
		return pack.File{Path: path, SHA256: models.Digest(hex.EncodeToString(sum[:])), Bytes: int64(len(files[path]))}
	}
	m := pack.Manifest{Format: pack.Format, Name: name, Version: "1", About: "a test", Models: []pack.Model{{
		Name: name, Kind: models.Completion, About: "a model", Licence: pack.Licence{Name: "MIT", Text: file("LICENCE")}, Files: []pack.File{file("w.gguf")},
	}}}
	var out bytes.Buffer
	if _, err := pack.Build(&out, m, nil, func(f pack.File) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files[f.Path])), nil }); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func (c *cluster) holds(i int, name string) bool {
	_, ok := c.nodes[i].engine.Spec(name)
	return ok
}

func (c *cluster) stage(i int, name string) registry.Standing {
	all, err := c.reg.Standings(c.t.Context(), name)
	if err != nil {
		c.t.Error(err)
	}
	return all[c.nodes[i].Name]
}

// complete asks on a node, as the gateway does, and returns what was said.
func (c *cluster) complete(ctx context.Context, i int, name string, on func(models.Chunk)) (said string, err error) {
	p := models.Prompt{Model: name, Raw: "hello"}
	req := guard.Request{Principal: guardtest.Admin(), Action: auth.ModelInfer, Resource: auth.Model(name)}
	err = c.house.Read(ctx, req, func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		for chunk, err := range c.nodes[i].fleet.Complete(ctx, permit, p) {
			if err != nil {
				return guard.Outcome{}, err
			}
			said += chunk.Text
			if on != nil {
				on(chunk)
			}
		}
		return guard.Outcome{}, nil
	})
	return said, err
}

func (c *cluster) embed(i int, name string, texts ...string) (vectors [][]float32, usage models.Usage, err error) {
	req := guard.Request{Principal: guardtest.Admin(), Action: auth.ModelEmbed, Resource: auth.Model(name)}
	err = c.house.Read(c.t.Context(), req, func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		var err error
		vectors, usage, err = c.nodes[i].fleet.Embed(ctx, permit, name, texts)
		return guard.Outcome{}, err
	})
	return vectors, usage, err
}

func TestAModelThatWasImportedOnOneNodeIsOnAll(t *testing.T) {
	c := newCluster(t, 3)
	if err := c.imports(0, "m", 9<<20); err != nil {
		t.Fatal(err)
	}
	if n := btoi(c.holds(0, "m")) + btoi(c.holds(1, "m")) + btoi(c.holds(2, "m")); n < 2 {
		t.Errorf("the import was complete when %d node held the model", n)
	}
	c.soon("all nodes are ready", func() bool {
		for i := range c.nodes {
			if c.stage(i, "m").Stage != registry.Ready || !c.holds(i, "m") {
				return false
			}
		}
		return true
	})
	list, err := c.nodes[1].packs.List(t.Context(), guardtest.Admin())
	if err != nil || len(list) != 1 || len(list[0].Nodes) != 3 {
		t.Errorf("%+v, %v", list, err)
	}
	if err := c.nodes[2].packs.Remove(t.Context(), guardtest.Admin(), "m"); err != nil {
		t.Fatal(err)
	}
	c.soon("it is removed everywhere", func() bool {
		for i, n := range c.nodes {
			if blobs, partial := n.engine.Left(); c.holds(i, "m") || blobs+partial > 0 || c.stage(i, "m").Stage != "" {
				return false
			}
		}
		return true
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestANodeThatComesLaterGetsTheModels(t *testing.T) {
	c := newCluster(t, 2)
	if err := c.imports(0, "m", 100_000); err != nil {
		t.Fatal(err)
	}
	c.nodes = append(c.nodes, &node{Node: c.net.Add(t, "node-3", t.TempDir()), engine: &modelstest.Engine{}})
	c.start(2, false)
	c.soon("the new node is ready", func() bool { return c.stage(2, "m").Stage == registry.Ready && c.holds(2, "m") })
}

func TestANodeWithoutTheModelAnswersAllTheSame(t *testing.T) {
	c := newCluster(t, 3, 2) // node 3 takes none
	if err := c.imports(0, "m", 1000); err != nil {
		t.Fatal(err)
	}
	c.soon("two nodes are ready", func() bool { return c.stage(0, "m").Stage == registry.Ready && c.stage(1, "m").Stage == registry.Ready })
	said, err := c.complete(t.Context(), 2, "m", nil)
	if err != nil || !strings.HasPrefix(said, "one two from ") {
		t.Errorf("%q, %v", said, err)
	}
	vectors, usage, err := c.embed(2, "m", "a text", "and another")
	if err != nil || len(vectors) != 2 || usage.TokensIn != 4 {
		t.Errorf("%d vectors, %+v, %v", len(vectors), usage, err)
	}
	if c.holds(2, "m") {
		t.Error("node 3 took the model")
	}
	if _, err := c.nodes[2].engine.Image(t.Context(), "m"); !errors.Is(err, models.ErrNoModel) {
		t.Error(err)
	}
}

func TestAFailureBeforeTheFirstWordGoesToAnotherNode(t *testing.T) {
	c := newCluster(t, 3, 2)
	if err := c.imports(0, "m", 1000); err != nil {
		t.Fatal(err)
	}
	c.soon("two nodes are ready", func() bool { return c.stage(0, "m").Stage == registry.Ready && c.stage(1, "m").Stage == registry.Ready })
	for name, broken := range map[string]func(w http.ResponseWriter, r *http.Request, right http.Handler){
		"it breaks off": func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) },
		"it is starting": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			http.Error(w, "", http.StatusServiceUnavailable)
		},
		"its engine is full": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			_, _ = io.WriteString(w, `{"Failed":{"Kind":"busy","Text":"busy"}}`)
		},
	} {
		c.nodes[0].Misbehave(broken)
		for range 4 { // whichever is asked first
			if said, err := c.complete(t.Context(), 2, "m", nil); err != nil || said != "one two from 2" {
				t.Errorf("%s: %q, %v", name, said, err)
			}
			if vectors, _, err := c.embed(2, "m", "x"); err != nil || len(vectors) != 1 {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	c.nodes[0].Misbehave(nil)
	c.nodes[0].Down(true)
	c.nodes[1].Down(true)
	if said, err := c.complete(t.Context(), 2, "m", nil); !errors.Is(err, models.ErrUnavailable) || said != "" || strings.Contains(err.Error(), "\n") {
		t.Errorf("%q, %v", said, err)
	}
}

func TestAFailureAfterTheFirstWordIsTheEnd(t *testing.T) {
	c := newCluster(t, 3, 2)
	if err := c.imports(0, "m", 1000); err != nil {
		t.Fatal(err)
	}
	c.soon("two nodes are ready", func() bool { return c.stage(0, "m").Stage == registry.Ready && c.stage(1, "m").Stage == registry.Ready })
	for _, n := range c.nodes[:2] {
		n.Misbehave(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			_, _ = io.WriteString(w, `{"Text":"half an answer"}`+"\n")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
	}
	said, err := c.complete(t.Context(), 2, "m", nil)
	if said != "half an answer" || !errors.Is(err, models.ErrInterrupted) {
		t.Errorf("%q, %v", said, err)
	}
}

func TestACallerThatLeavesEndsTheModelOnTheOtherNode(t *testing.T) {
	c := newCluster(t, 2, 1)
	ended := make(chan struct{})
	c.nodes[0].engine.Gate = make(chan struct{}, 1)
	c.nodes[0].engine.Begun = func(ctx context.Context) { context.AfterFunc(ctx, func() { close(ended) }) }
	if err := c.imports(0, "m", 1000); err != nil {
		t.Fatal(err)
	}
	c.soon("node 1 is ready", func() bool { return c.stage(0, "m").Stage == registry.Ready })
	ctx, cancel := context.WithCancel(t.Context())
	c.nodes[0].engine.Gate <- struct{}{}
	if _, err := c.complete(ctx, 1, "m", func(models.Chunk) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the model works on")
	}
}

func TestWithoutAPermitNothingIsAsked(t *testing.T) {
	c := newCluster(t, 2)
	for _, err := range c.nodes[0].fleet.Complete(t.Context(), nil, models.Prompt{Model: "m"}) {
		if !errors.Is(err, auth.ErrDenied) {
			t.Error(err)
		}
	}
	if _, _, err := c.nodes[0].fleet.Embed(t.Context(), &guard.Permit{}, "m", nil); !errors.Is(err, auth.ErrDenied) {
		t.Error(err)
	}
}

func TestAnImportThatNoSecondNodeCanTakeFails(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for a second opinion")
	}
	c := newCluster(t, 2)
	c.nodes[1].engine.Free = 10
	err := c.imports(0, "m", 1000)
	if err == nil || !strings.Contains(err.Error(), "node-2") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	if list, err := c.reg.Models(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	c.soon("nothing is left", func() bool {
		for i, n := range c.nodes {
			if blobs, partial := n.engine.Left(); c.holds(i, "m") || blobs+partial > 0 {
				return false
			}
		}
		return true
	})
	c.nodes[1].engine.Free = 0
	if err := c.imports(0, "m", 1000); err != nil {
		t.Errorf("the next time: %v", err)
	}
}

func TestAWrongFileIsFetchedFromAnotherNode(t *testing.T) {
	c := newCluster(t, 2)
	if err := c.imports(0, "m", 5<<20); err != nil {
		t.Fatal(err)
	}
	c.nodes = append(c.nodes, &node{Node: c.net.Add(t, "node-3", t.TempDir()), engine: &modelstest.Engine{}})
	var lies atomic.Int64
	c.nodes[0].Misbehave(func(w http.ResponseWriter, r *http.Request, right http.Handler) {
		if r.Header.Get("Range") == "" {
			right.ServeHTTP(w, r)
			return
		}
		lies.Add(1)
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(make([]byte, 4<<20))
	})
	c.start(2, false)
	c.soon("the new node is ready", func() bool { return c.stage(2, "m").Stage == registry.Ready })
	if lies.Load() == 0 {
		t.Error("the node that lies was not asked: this test proves nothing")
	}
}

func TestARemovedNodeIsForgotten(t *testing.T) {
	c := newCluster(t, 3)
	if err := c.imports(0, "m", 1000); err != nil {
		t.Fatal(err)
	}
	c.soon("node 3 is ready", func() bool { return c.stage(2, "m").Stage == registry.Ready })
	c.nodes[2].stop()
	c.net.Remove("node-3")
	c.soon("nobody speaks of it", func() bool {
		c.nodes[0].fleet.Kick()
		hosts, err := c.reg.Hosts(t.Context())
		return err == nil && len(hosts) == 2 && c.stage(2, "m").Stage == ""
	})
}

func TestAModelThatIsRemovedWhileItIsBroughtIsNotBrought(t *testing.T) {
	c := newCluster(t, 2)
	if err := c.imports(0, "m", 9<<20); err != nil {
		t.Fatal(err)
	}
	c.nodes = append(c.nodes, &node{Node: c.net.Add(t, "node-3", t.TempDir()), engine: &modelstest.Engine{}})
	begun := make(chan struct{})
	var once sync.Once
	for _, n := range c.nodes[:2] {
		n.Misbehave(func(w http.ResponseWriter, r *http.Request, right http.Handler) {
			if r.Header.Get("Range") != "" {
				once.Do(func() { close(begun) })
				<-r.Context().Done() // for ever, as far as node 3 is concerned
				return
			}
			right.ServeHTTP(w, r)
		})
	}
	c.start(2, false)
	<-begun
	if err := c.nodes[0].packs.Remove(t.Context(), guardtest.Admin(), "m"); err != nil {
		t.Fatal(err)
	}
	c.soon("node 3 has given up", func() bool { return c.stage(2, "m").Stage == "" })
	if c.holds(2, "m") {
		t.Error("it was brought")
	}
}

func TestADamagedModelIsBroughtAgain(t *testing.T) {
	c := newCluster(t, 2)
	if err := c.imports(0, "m", 100_000); err != nil {
		t.Fatal(err)
	}
	c.soon("both are ready", func() bool { return c.stage(0, "m").Stage == registry.Ready && c.stage(1, "m").Stage == registry.Ready })
	c.nodes[0].engine.Rot()
	for range 2 { // the second time there is nothing to find
		if err := c.nodes[0].fleet.VerifyModels(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.soon("it is whole again", func() bool {
			image, err := c.nodes[0].engine.Image(t.Context(), "m")
			if err != nil {
				t.Error(err)
			}
			f, size, err := c.nodes[0].engine.Open(image.Blobs[0].Digest)
			if err != nil {
				return false
			}
			b, err := io.ReadAll(f)
			sum := sha256.Sum256(b)
			return err == nil && size == 100_000 && hex.EncodeToString(sum[:]) == string(image.Blobs[0].Digest)
		})
	}
}
