package lease

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloister-os/cloister/store"
)

// TestALeaseIsDeadOnceItStoodUnchanged: for its whole life, counted from when it was
// first seen so; a renewal or an absence begins the count anew, and by then its own
// worker has long stopped.
func TestALeaseIsDeadOnceItStoodUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const life = 9 * time.Second
		var s Sightings
		dead := func(after time.Duration, v store.Version, want bool) {
			t.Helper()
			time.Sleep(after)
			if s.Dead("a", v, life) != want {
				t.Errorf("dead: %v", !want)
			}
		}
		dead(0, 1, false)
		dead(life, 1, false)
		dead(1, 1, true)
		dead(0, 2, false) // renewed
		dead(life+1, 2, true)
		s.Keep(map[string]bool{"a": true})
		dead(0, 2, true)
		s.Keep(map[string]bool{"b": true}) // it was gone for a while
		dead(0, 2, false)
		if s.Dead("b", 2, life) {
			t.Error("another lease is dead as well")
		}
		if Sure(life) != 6*time.Second {
			t.Errorf("its worker is sure for %v", Sure(life))
		}
	})
}

// answers is a store that gives one answer after the other.
type answers []error

func (a *answers) Apply(context.Context, *store.Tx) (store.Result, error) {
	err := (*a)[0]
	*a = (*a)[1:]
	return store.Result{}, err
}

func TestWhatIsUnknownIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, known := range []error{nil, store.ErrBusy, store.ErrConflict} {
			a := answers{store.ErrUnknown, store.ErrUnknown, known, errors.New("sent once too often")}
			if _, err := Insist(t.Context(), &a, store.NewTx()); !errors.Is(err, known) || len(a) != 1 {
				t.Errorf("after two unknown outcomes and %v: %v, %d answers left", known, err, len(a))
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		a := answers{store.ErrUnknown, nil}
		if _, err := Insist(ctx, &a, store.NewTx()); !errors.Is(err, store.ErrUnknown) {
			t.Errorf("after the end: %v", err)
		}
	})
}
