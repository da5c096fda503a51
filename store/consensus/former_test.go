package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine"
)

func testNode(t *testing.T, c Config) *Node {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	c.NodeID, c.Logger = "n1", slog.New(slog.NewTextHandler(io.Discard, nil))
	n, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	select {
	case <-n.Ready():
	case err := <-n.Fatal():
		t.Fatal(err)
	}
	return n
}

func leafTx(k store.Key) *store.Tx {
	tx := store.NewTx()
	tx.Put(k, []byte("x"))
	tx.Append("l", []byte(k))
	return tx
}

func logSize(t *testing.T, n *Node) (size uint64) {
	t.Helper()
	err := n.View(t.Context(), store.Fresh, func(s store.Snapshot) error {
		size = s.Log("l").Size()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// loseAnswer pretends that a transaction did not come home.
func loseAnswer(n *Node, p *pending) {
	o := n.origin
	lost := &pending{node: n, tx: p.tx, size: p.size, seq: p.seq, done: make(chan struct{}), asked: p.asked, first: p.first, sent: p.sent, tries: 1}
	lost.taken.Store(true)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.out[p.seq] = lost
	o.order = append([]*pending{lost}, o.order...)
	o.bytes += lost.size
	o.keep(lost)
}

func TestSendingAgainAfterUnknownAppliesOnce(t *testing.T) {
	n := testNode(t, Config{})
	tx := leafTx("S/a")
	p := n.submit(t.Context(), tx, store.Interactive)
	first, err := p.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	loseAnswer(n, p)
	for i := range 5 { // others go on meanwhile
		if _, err := n.Apply(t.Context(), leafTx(store.Key(fmt.Sprint("S/other", i)))); err != nil {
			t.Fatal(err)
		}
	}
	again, err := n.Apply(t.Context(), tx)
	if err != nil || fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("again %+v, %v; first %+v", again, err, first)
	}
	if size := logSize(t, n); size != 6 {
		t.Errorf("%d leaves, want 6", size)
	}
}

func TestSendingAgainTooLateIsRefused(t *testing.T) {
	n := testNode(t, Config{})
	tx := leafTx("S/a")
	p := n.submit(t.Context(), tx, store.Interactive)
	if _, err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	loseAnswer(n, p)
	n.origin.expire(time.Now().Add(2 * unknownFor))
	if _, err := n.Apply(t.Context(), leafTx("S/other")); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Apply(t.Context(), tx); !errors.Is(err, store.ErrUnknown) {
		t.Errorf("got %v", err)
	}
	if size := logSize(t, n); size != 2 {
		t.Errorf("%d leaves, want 2", size)
	}
}

// Who stops waiting for a transaction in flight may ask again and gets its outcome.
func TestGivingUpAndAskingAgain(t *testing.T) {
	n := testNode(t, Config{})
	applied, unknown, never := 0, 0, 0
	for i := range 200 {
		tx := leafTx(store.Key(fmt.Sprint("S/", i)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*5*time.Microsecond)
		_, err := n.Apply(ctx, tx)
		cancel()
		switch {
		case err == nil:
			applied++
		case errors.Is(err, store.ErrUnknown):
			if _, err := n.Apply(t.Context(), tx); err != nil {
				t.Fatal(err)
			}
			unknown++
		case errors.Is(err, context.DeadlineExceeded):
			never++ // taken back: nothing happened
		default:
			t.Fatal(err)
		}
	}
	t.Logf("%d applied, %d asked for again, %d taken back", applied, unknown, never)
	if size := logSize(t, n); size != uint64(applied+unknown) {
		t.Errorf("%d leaves, want %d", size, applied+unknown)
	}
}

func TestAFailedLogEndsTheNode(t *testing.T) {
	n := testNode(t, Config{})
	if err := n.logs.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Apply(t.Context(), leafTx("S/a")); !errors.Is(err, store.ErrUnknown) && !errors.Is(err, store.ErrClosed) {
		t.Errorf("a transaction that met the failure: %v", err)
	}
	for i := range 20 { // nobody is left waiting
		if _, err := n.Apply(t.Context(), leafTx(store.Key(fmt.Sprint("S/", i)))); err == nil {
			t.Error("a transaction was acknowledged without a log")
		}
	}
	if err := <-n.Fatal(); err == nil || !strings.Contains(err.Error(), "log") {
		t.Errorf("fatal: %v", err)
	}
	if _, err := n.Apply(t.Context(), leafTx("S/b")); !errors.Is(err, store.ErrClosed) {
		t.Errorf("a later one: %v", err)
	}
	if err := n.View(t.Context(), store.Local, func(store.Snapshot) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("a view: %v", err)
	}
}

func TestAFailedSyncEndsTheNode(t *testing.T) {
	n := testNode(t, Config{SyncEvery: 10 * time.Millisecond})
	if err := os.RemoveAll(filepath.Join(n.cfg.Dir, "gen-1", "state")); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Apply(t.Context(), leafTx("S/a")); err != nil {
		t.Fatal(err)
	}
	if err := <-n.Fatal(); err == nil || !strings.Contains(err.Error(), "sync") {
		t.Errorf("fatal: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

func TestReserveRefusesAndRecovers(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 40)
	n := testNode(t, Config{FreeBytes: func(string) (int64, error) { return free.Load(), nil }})
	if _, err := n.Apply(t.Context(), leafTx("S/a")); err != nil {
		t.Fatal(err)
	}
	free.Store(255 << 20)
	n.reserve.look()
	_, err := n.Apply(t.Context(), leafTx("S/b"))
	if !errors.Is(err, store.ErrReadOnly) || !strings.Contains(err.Error(), "255 MiB free") {
		t.Errorf("got %v", err)
	}
	if size := logSize(t, n); size != 1 {
		t.Errorf("%d leaves", size)
	}
	free.Store(1 << 40)
	n.reserve.next.Store(0) // a moment later
	if _, err := n.Apply(t.Context(), leafTx("S/b")); err != nil {
		t.Errorf("after space was freed: %v", err)
	}
}

func TestOlderDatabasesAreRefused(t *testing.T) {
	dir, old := t.TempDir(), t.TempDir()
	n := testNode(t, Config{Dir: dir})
	n.Apply(t.Context(), leafTx("S/a"))
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(old, os.DirFS(dir+"/gen-1")); err != nil {
		t.Fatal(err)
	}
	n = testNode(t, Config{Dir: dir})
	n.Apply(t.Context(), leafTx("S/b"))
	if err := n.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	os.RemoveAll(dir + "/gen-1")
	if err := os.CopyFS(dir+"/gen-1", os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Config{Dir: dir, NodeID: "n1"})
	if err == nil || !strings.Contains(err.Error(), "older copy") {
		t.Errorf("yesterday's databases beside today's log: %v", err)
	}
}

func pend(class store.Class, size int) *pending {
	tx := store.NewTx()
	for i := 0; size > 0; i++ {
		n := min(size, store.MaxValueBytes)
		tx.Put(store.Key(fmt.Sprint("S/", i)), make([]byte, n))
		size -= n
	}
	return &pending{tx: tx, size: tx.Bytes(), class: class, done: make(chan struct{})}
}

func count(group []*pending) (interactive, bulk int) {
	for _, p := range group {
		if p.class == store.Bulk {
			bulk++
		} else {
			interactive++
		}
	}
	return interactive, bulk
}

func fill(t *testing.T, q *queue, class store.Class, n, size int) {
	t.Helper()
	for range n {
		if err := q.push(pend(class, size)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBulkTakesAQuarterWhileInteractiveWaits(t *testing.T) {
	q := newQueue(64 << 20)
	fill(t, q, store.Bulk, 3000, 8)
	fill(t, q, store.Interactive, 2000, 8)
	if i, b := count(q.group()); i != machine.MaxGroupTxs*3/4 || b != machine.MaxGroupTxs/4 {
		t.Errorf("group of %d and %d bulk", i, b)
	}
	for {
		if i, _ := count(q.group()); i < machine.MaxGroupTxs*3/4 {
			break
		}
	}
	if i, b := count(q.group()); i != 0 || b != machine.MaxGroupTxs {
		t.Errorf("with nobody else waiting: %d and %d bulk", i, b)
	}
}

func TestLargeBulkIsNotStarved(t *testing.T) {
	q := newQueue(64 << 20)
	fill(t, q, store.Bulk, 1, 200<<10)
	for groups := 0; ; groups++ {
		fill(t, q, store.Interactive, 2000, 8)
		if _, b := count(q.group()); b == 1 {
			return
		}
		if groups > 2*bulkPatience {
			t.Fatal("it never got a group")
		}
	}
}

func TestQueueIsBounded(t *testing.T) {
	q := newQueue(100 << 10)
	var err error
	for n := 0; err == nil; n++ {
		err = q.push(pend(store.Interactive, 1000))
		if n > 200 {
			t.Fatal("it never was full")
		}
	}
	if !errors.Is(err, store.ErrBusy) {
		t.Errorf("got %v", err)
	}
	if err := q.push(pend(store.Bulk, 1000)); err != nil {
		t.Errorf("the other class: %v", err)
	}
	q.group()
	if err := q.push(pend(store.Interactive, 1000)); err != nil {
		t.Errorf("after a group left: %v", err)
	}
}

func TestGroupsAreBounded(t *testing.T) {
	q := newQueue(64 << 20)
	fill(t, q, store.Interactive, 10, 60000)
	if i, _ := count(q.group()); i != 4 {
		t.Errorf("%d transactions of 60 kB in a group", i)
	}
	q = newQueue(64 << 20)
	for i := range 100 {
		p := pend(store.Interactive, 8)
		p.tx.Append(fmt.Sprint("log", i), []byte("x"))
		if err := q.push(p); err != nil {
			t.Fatal(err)
		}
	}
	if i, _ := count(q.group()); i != machine.MaxGroupLogs {
		t.Errorf("%d logs in a group", i)
	}
}
