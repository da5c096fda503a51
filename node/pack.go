package node

import (
	"context"

	"github.com/cloister-os/cloister/models/pack"
)

// importPack brings in the pack that the configuration names, while there is no
// model yet. Nobody has accepted its terms by that: an administrator does.
func (n *Node) importPack(ctx context.Context) error {
	if n.cfg.Pack == "" {
		return nil
	}
	have, err := n.registry.Models(ctx)
	if err != nil || len(have) > 0 {
		return err
	}
	n.log.Info("importing the model pack", "pack", n.cfg.Pack)
	res, err := n.packs.Import(ctx, n.principal(), pack.Source{Path: n.cfg.Pack}, pack.Options{})
	if err != nil {
		if ctx.Err() == nil {
			// Answers come from queries and text search meanwhile.
			n.log.Error("the model pack could not be imported; try again with: cloister model import FILE", "pack", n.cfg.Pack, "err", err)
		}
		return nil
	}
	for _, m := range res.Models {
		n.log.Info("a model was imported", "model", m.Name, "licence", m.Licence, "usable", m.Usable())
	}
	return nil
}
