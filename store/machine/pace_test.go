package machine

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A stage rests for a multiple of its work while others write, and goes on at full
// speed while nobody does.
func TestAStageRestsWhileOthersWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &Machine{}
		p := m.newPace()
		step := func(work time.Duration, others bool) (rested time.Duration) {
			t.Helper()
			time.Sleep(work)
			if others {
				m.bytes.Add(1)
			}
			began := time.Now()
			if err := p.worked(t.Context(), paceBytes); err != nil {
				t.Fatal(err)
			}
			return time.Since(began)
		}
		for _, c := range []struct {
			work   time.Duration
			others bool
			want   time.Duration
		}{
			{2 * time.Millisecond, true, paceShare * 2 * time.Millisecond},
			{2 * time.Millisecond, false, 0},
			{time.Second, true, paceLimit},
		} {
			if got := step(c.work, c.others); got != c.want {
				t.Errorf("after %v of work, others %t: it rests %v, want %v", c.work, c.others, got, c.want)
			}
		}
		m.bytes.Add(1)
		began := time.Now()
		if err := p.worked(t.Context(), paceBytes-1); err != nil || time.Since(began) != 0 {
			t.Errorf("it rests before it is time to: %v", err)
		}
		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(enough)
		if err := p.worked(ctx, paceBytes); err == nil {
			t.Error("it goes on though nobody wants it any more")
		}
	})
}
