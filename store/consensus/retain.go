package consensus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloister-os/cloister/store"
)

// retain moves the retention floor once in a while, when this node leads.
func (n *Node) retain() {
	if n.cfg.Retention == 0 {
		return
	}
	tick := time.NewTicker(min(time.Hour, n.cfg.Retention/4+time.Second))
	defer tick.Stop()
	for {
		select {
		case <-n.dead:
			return
		case <-tick.C:
			if !n.Leads() {
				continue
			}
			if err := n.Retain(context.Background()); err != nil {
				n.log.Warn("the retention floor could not be moved", "error", err)
			}
		}
	}
}

// Retain moves the retention floor to what Config.Retention says now: history
// below it can no longer be read, and its space is reclaimed.
func (n *Node) Retain(ctx context.Context) error {
	_, now, _ := n.machine.Head()
	to, err := n.machine.VersionAt(now.Add(-n.cfg.Retention))
	if err != nil {
		return fmt.Errorf("find the version of %v ago: %w", n.cfg.Retention, err)
	}
	_, err = n.Update(ctx, func(u *store.Update) error {
		item, err := u.Get(store.RetentionFloor)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if have, ok := store.ParseNumber(string(item.Value)); ok && have >= uint64(to) || to == 0 {
			return errNothing
		}
		u.Put(store.RetentionFloor, []byte(store.Number(uint64(to))))
		return nil
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}

// errNothing ends an Update that has nothing to change.
var errNothing = errors.New("nothing to change")
