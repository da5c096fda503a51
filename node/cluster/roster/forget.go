package roster

import (
	"context"
	"fmt"

	"github.com/cloister-os/cloister/store"
)

// Forget drops every node and every invitation from the store: for a cluster that
// begins anew with what was saved of another. The node that runs is on the roster
// again once it announces itself.
func Forget(ctx context.Context, s store.Store) error {
	for _, prefix := range []store.Key{nodes.Prefix(), invites.Prefix()} {
		for {
			tx := store.NewTx()
			err := s.View(ctx, store.Local, func(v store.Snapshot) error {
				for item, err := range v.Scan(prefix, "") {
					if err != nil || !tx.Fits(1, len(item.Key)) {
						return err
					}
					tx.Delete(item.Key)
				}
				return nil
			})
			if err == nil && tx.Len() == 0 {
				break
			}
			if err == nil {
				_, err = s.Apply(ctx, tx)
			}
			if err != nil {
				return fmt.Errorf("forget the nodes from before: %w", err)
			}
		}
	}
	return nil
}
