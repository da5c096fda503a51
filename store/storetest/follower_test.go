package storetest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

func TestAFollowerPassesTheSuite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return storetest.NewFollower(storetest.NewModel(nil)) })
}

func put(t *testing.T, st store.Store, k store.Key, v string) store.Version {
	t.Helper()
	tx := store.NewTx()
	tx.Put(k, []byte(v))
	res, err := st.Apply(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	return res.Version
}

func read(t *testing.T, st store.Store, at store.ReadAt, k store.Key) string {
	t.Helper()
	var value string
	err := st.View(t.Context(), at, func(s store.Snapshot) error {
		item, err := s.Get(k)
		value = string(item.Value)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestAHeldFollowerShowsThePastUntilItHasReasonNotTo(t *testing.T) {
	m := storetest.NewModel(nil)
	f := storetest.NewFollower(m)
	put(t, m, "S/a", "old")
	f.Hold()
	v := put(t, m, "S/a", "new")
	if got := read(t, f, store.Local, "S/a"); got != "old" || f.Applied() >= v {
		t.Errorf("Local shows %q at %d", got, f.Applied())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := f.View(ctx, store.At(v), func(store.Snapshot) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a view of what has not arrived: %v", err)
	}
	if got := read(t, f, store.Fresh, "S/a"); got != "new" {
		t.Errorf("Fresh shows %q", got)
	}
	if got := read(t, f, store.Local, "S/a"); got != "new" {
		t.Errorf("Local shows %q after Fresh", got)
	}
	f.Cut()
	if err := f.View(t.Context(), store.Fresh, nil); !errors.Is(err, store.ErrBusy) {
		t.Errorf("Fresh of a node that is cut off: %v", err)
	}
}
