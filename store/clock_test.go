package store_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

// A node whose own clock is an hour off tells the leader's time, and goes on
// telling it while the store does not answer.
func TestTheClockTellsLeaderTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leader := func() time.Time { return time.Now().Add(time.Hour) }
		node := storetest.NewFollower(storetest.NewModel(leader))
		clock := store.NewClock(node)
		ctx, cancel := context.WithCancel(t.Context())
		go clock.Run(ctx)
		if off := time.Since(clock.Now()); off != 0 {
			t.Errorf("before the first reading it is %v off the node's own clock", off)
		}
		for range 3 {
			synctest.Wait()
			if off := leader().Sub(clock.Now()); off != 0 {
				t.Errorf("it is %v behind the leader", off)
			}
			time.Sleep(time.Minute)
		}
		node.Cut()
		time.Sleep(time.Hour)
		if off := leader().Sub(clock.Now()); off != 0 {
			t.Errorf("cut off for an hour it is %v behind the leader", off)
		}
		cancel()
		synctest.Wait()
	})
}

func TestAClockThatNobodyAsksWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.NewModel(nil)
		clock := store.NewClock(st)
		ctx, cancel := context.WithCancel(t.Context())
		go clock.Run(ctx)
		clock.Now()
		synctest.Wait()
		before := st.Applied()
		time.Sleep(time.Hour)
		if st.Applied() != before || before == 0 {
			t.Errorf("an idle clock took the store from version %d to %d", before, st.Applied())
		}
		cancel()
		synctest.Wait()
	})
}
