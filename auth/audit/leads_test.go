package audit

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

// counting counts the transactions that a node makes.
type counting struct {
	store.Store
	made atomic.Int64
}

func (c *counting) Apply(ctx context.Context, tx *store.Tx) (store.Result, error) {
	c.made.Add(1)
	return c.Store.Apply(ctx, tx)
}

// Of several nodes with the same key, the one that leads signs, and the next
// leader goes on with its chain.
func TestTheNodeThatLeadsSigns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, key := storetest.NewModel(nil), newKey(t, "cluster")
		var leader atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		nodes := make([]*counting, 2)
		logs := make([]*Log, 2)
		for i := range nodes {
			nodes[i] = &counting{Store: st}
			l, err := New(Config{
				Store: nodes[i], Signer: key.signer, VerifierKey: key.vkey, Logger: slog.New(slog.DiscardHandler),
				Leads: func() bool { return leader.Load() == int64(i) },
			})
			if err != nil {
				t.Fatal(err)
			}
			logs[i] = l
			go func() {
				if err := l.Run(ctx); err != nil {
					t.Error(err)
				}
			}()
		}
		for turn := range 4 {
			leader.Store(int64(turn % 2))
			before := nodes[(turn+1)%2].made.Load()
			tx := store.NewTx()
			if err := Append(tx, record(turn)); err != nil {
				t.Fatal(err)
			}
			if _, err := st.Apply(ctx, tx); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if c, err := logs[turn%2].Last(ctx); err != nil || c.Size <= uint64(turn) {
				t.Errorf("turn %d: the last checkpoint covers %d records, %v", turn, c.Size, err)
			}
			if n := nodes[(turn+1)%2].made.Load(); n != before {
				t.Errorf("turn %d: the node that does not lead made %d transactions", turn, n-before)
			}
		}
	})
}
