package consensus

import (
	"context"
	"io"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/machine"
)

// StageSince writes what came after a version, 0 = everything, to one writer for
// each database, while writing goes on. See machine.Machine.StageSince.
func (n *Node) StageSince(ctx context.Context, since store.Version, open func(store.Database) (io.Writer, error)) (machine.Head, [2]machine.Part, error) {
	if err := n.waitReady(ctx); err != nil {
		return machine.Head{}, [2]machine.Part{}, err
	}
	return n.machine.StageSince(ctx, since, open)
}
