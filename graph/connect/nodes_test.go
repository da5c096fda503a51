package connect_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/storetest"
)

// member is the source service of one of several nodes that share a store.
type member struct {
	*connect.Service
	sys   *system
	store *storetest.Follower
}

// everywhere is a system that each node reaches.
type everywhere struct{ *system }

func (everywhere) Anywhere() bool { return true }

func join(t *testing.T, ctx context.Context, st store.Store, name string, change func(*connect.Config)) member {
	t.Helper()
	m := member{sys: &system{}, store: storetest.NewFollower(st)}
	blobs, err := blob.Open(t.TempDir())
	must(t, err)
	cfg := connect.Config{
		Store: m.store, Blobs: blobs, Door: guardtest.Open(t, m.store), Connectors: []connect.Connector{m.sys}, Every: -1,
		Node: auth.Principal{Kind: auth.System, ID: name, Name: name}, Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	m.Service, err = connect.New(cfg)
	must(t, err)
	go m.Run(ctx)
	return m
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// nodes runs f in a bubble in which several services may join.
func nodes(t *testing.T, f func(t *testing.T, ctx context.Context, st store.Store)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f(t, ctx, storetest.NewModel(nil))
		cancel()
		time.Sleep(time.Minute) // what was under way gives up
		synctest.Wait()
	})
}

func TestAnyNodeSyncsAndShowsASourceOfAnother(t *testing.T) {
	nodes(t, func(t *testing.T, ctx context.Context, st store.Store) {
		a, b := join(t, ctx, st, "a", nil), join(t, ctx, st, "b", nil)
		_, err := a.Add(ctx, guardtest.Admin(), source("s"))
		must(t, err)
		_, err = a.Wait(ctx, guardtest.Admin(), "s")
		must(t, err)
		goOn := make(chan struct{})
		a.sys.set(func(ctx context.Context, sink *connect.Sink) error {
			sink.Stage("reading", 7)
			sink.Done(3)
			<-goOn
			return sink.Put(ctx, thing("s", "y"))
		})
		job, err := b.Sync(ctx, guardtest.Admin(), "s")
		must(t, err)
		time.Sleep(3 * time.Second)
		got, err := b.Get(ctx, guardtest.Admin(), "s")
		must(t, err)
		if p := got.Progress; got.Node != "a" || !p.Running || p.Job != job || p.Stage != "reading" || p.Done != 3 || p.Total != 7 {
			t.Errorf("the other node shows %+v of node %q, want job %s", p, got.Node, job)
		}
		close(goOn)
		p, err := b.Wait(ctx, guardtest.Admin(), "s")
		must(t, err)
		if p.Job != job || p.Error != "" || p.Records != 1 || a.sys.count() != 2 || b.sys.count() != 0 {
			t.Errorf("it ended with %+v after %d and %d scans", p, a.sys.count(), b.sys.count())
		}
	})
}

func TestASourceOfANodeThatIsAwaySaysSo(t *testing.T) {
	nodes(t, func(t *testing.T, ctx context.Context, st store.Store) {
		a := join(t, ctx, st, "a", nil)
		since := time.Now().UTC()
		var away atomic.Bool
		b := join(t, ctx, st, "b", func(c *connect.Config) {
			c.Away = func(node string) (time.Time, bool) { return since, away.Load() && node == "a" }
		})
		_, err := a.Add(ctx, guardtest.Admin(), source("s"))
		must(t, err)
		_, err = a.Wait(ctx, guardtest.Admin(), "s")
		must(t, err)
		a.store.Cut() // it is cut off, and the others have not found out
		_, err = b.Sync(ctx, guardtest.Admin(), "s")
		if !errors.Is(err, connect.ErrAway) || !strings.Contains(err.Error(), "node a") {
			t.Errorf("a node that does not answer: %v", err)
		}
		away.Store(true)
		_, err = b.Sync(ctx, guardtest.Admin(), "s")
		if !errors.Is(err, connect.ErrAway) || !strings.Contains(err.Error(), since.Format("2006-01-02 15:04:05")) {
			t.Errorf("a node that is away: %v", err)
		}
		got, err := b.Get(ctx, guardtest.Admin(), "s")
		must(t, err)
		if !got.Away.Equal(since) {
			t.Errorf("it is shown as away since %v", got.Away)
		}
		if _, err := b.Add(ctx, guardtest.Admin(), graph.Source{Name: "t", Kind: "system", Path: "/x", Node: "a"}); !errors.Is(err, connect.ErrAway) {
			t.Errorf("adding a source there: %v", err)
		}
	})
}

func TestASourceIsAddedWhereItsFolderIs(t *testing.T) {
	nodes(t, func(t *testing.T, ctx context.Context, st store.Store) {
		a, b := join(t, ctx, st, "a", nil), join(t, ctx, st, "b", nil)
		b.sys.check = errors.New("there is no such folder on this machine")
		if _, err := b.Add(ctx, guardtest.Admin(), source("s")); err == nil {
			t.Error("it was added where it is not")
		}
		src := source("s")
		src.Node = "a"
		if _, err := b.Add(ctx, guardtest.Asker(), src); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("somebody who may not adds it: %v", err)
		}
		got, err := b.Add(ctx, guardtest.Admin(), src)
		must(t, err)
		synctest.Wait() // the first sync has begun
		if got.Node != "a" || a.sys.count()+b.sys.count() == 0 {
			t.Errorf("it was added as %+v", got)
		}
		if _, err := b.Add(ctx, guardtest.Admin(), src); !errors.Is(err, connect.ErrExists) {
			t.Errorf("added twice: %v", err)
		}
	})
}

// A node is cut off in the middle of a sync. Another removes the source; when the
// first is back, nothing that it still wants to write gets in.
func TestANodeThatWasCutOffWritesNothingIntoARemovedSource(t *testing.T) {
	nodes(t, func(t *testing.T, ctx context.Context, st store.Store) {
		a, b := join(t, ctx, st, "a", nil), join(t, ctx, st, "b", nil)
		reading, goOn := make(chan struct{}), make(chan struct{})
		var wrote atomic.Pointer[error]
		a.sys.set(func(ctx context.Context, sink *connect.Sink) error {
			must(t, sink.Put(ctx, thing("s", "before")))
			must(t, sink.Flush(ctx))
			close(reading)
			<-goOn
			late := context.WithoutCancel(ctx) // the worst that a connector could do
			err := errors.Join(sink.Put(late, thing("s", "after")), sink.Flush(late))
			wrote.Store(&err)
			return err
		})
		_, err := a.Add(ctx, guardtest.Admin(), source("s"))
		must(t, err)
		<-reading
		a.store.Cut()
		must(t, b.Remove(ctx, guardtest.Admin(), "s"))
		a.store.Join()
		close(goOn)
		time.Sleep(time.Second)
		if err := wrote.Load(); err == nil || !errors.Is(*err, store.ErrConflict) {
			t.Errorf("the late write ended with %v", err)
		}
		must(t, st.View(ctx, store.Fresh, func(s store.Snapshot) error {
			for _, space := range []store.Space{graph.SpaceRecord, graph.SpaceClaim, graph.SpaceSource, graph.SpaceCursor} {
				for item := range s.Scan(store.Key(space), "") {
					t.Errorf("%q is left", item.Key)
				}
			}
			return nil
		}))
	})
}

// What a dead node was at is shown as stopped on all others, and the node that
// comes back goes on.
func TestADeadNodesSyncIsShownAsStopped(t *testing.T) {
	nodes(t, func(t *testing.T, ctx context.Context, st store.Store) {
		dead, kill := context.WithCancel(ctx)
		a, b := join(t, dead, st, "a", nil), join(t, ctx, st, "b", nil)
		c := join(t, ctx, st, "c", func(c *connect.Config) { c.Leads = func() bool { return false } })
		a.sys.set(func(ctx context.Context, _ *connect.Sink) error { <-ctx.Done(); return ctx.Err() })
		_, err := a.Add(ctx, guardtest.Admin(), source("s"))
		must(t, err)
		time.Sleep(3 * time.Second)
		a.store.Cut()
		kill()
		time.Sleep(15 * time.Second)
		for _, m := range []member{b, c} {
			got, err := m.Get(ctx, guardtest.Admin(), "s")
			must(t, err)
			if got.Progress.Running || !strings.Contains(got.Progress.Error, "node a stopped in the middle") {
				t.Errorf("it is shown as %+v", got.Progress)
			}
		}
		again := join(t, ctx, st, "a", nil)
		_, err = c.Sync(ctx, guardtest.Admin(), "s")
		must(t, err)
		p, err := c.Wait(ctx, guardtest.Admin(), "s")
		must(t, err)
		if p.Error != "" || again.sys.count() != 1 {
			t.Errorf("back again it ended with %+v after %d scans", p, again.sys.count())
		}
		must(t, a.Close())
	})
}

// What every node reaches is synced by one of them at a time.
func TestWhatEveryNodeReachesIsReadByOne(t *testing.T) {
	nodes(t, func(t *testing.T, ctx context.Context, st store.Store) {
		var at, most, scans atomic.Int64
		sys := &system{}
		sys.set(func(ctx context.Context, _ *connect.Sink) error {
			scans.Add(1)
			most.Store(max(most.Load(), at.Add(1)))
			defer at.Add(-1)
			select {
			case <-time.After(20 * time.Second):
			case <-ctx.Done():
			}
			return ctx.Err()
		})
		var leader atomic.Int64
		var members []member
		for i, name := range []string{"a", "b", "c"} {
			members = append(members, join(t, ctx, st, name, func(c *connect.Config) {
				c.Connectors, c.Every, c.Leads = []connect.Connector{everywhere{sys}}, 10*time.Second, func() bool { return leader.Load() == int64(i) }
			}))
		}
		_, err := members[1].Add(ctx, guardtest.Admin(), source("s"))
		must(t, err)
		for turn := range int64(6) {
			leader.Store(turn % 3)
			_, err := members[(turn+1)%3].Sync(ctx, guardtest.Admin(), "s")
			must(t, err)
			time.Sleep(35 * time.Second)
		}
		if most.Load() != 1 || scans.Load() < 4 {
			t.Errorf("%d nodes were at it together, in %d scans", most.Load(), scans.Load())
		}
		for _, m := range members {
			must(t, m.Close())
		}
	})
}
