package node

import (
	"context"

	"github.com/cloister-os/cloister/models/engine"
	"github.com/cloister-os/cloister/models/fleet"
	"github.com/cloister-os/cloister/models/pack"
	"github.com/cloister-os/cloister/models/registry"
)

// openModels opens this node's engine, joins it to those of the other nodes, and
// opens the way in for models.
func (n *Node) openModels(context.Context) (err error) {
	// The engine ends with Close, not with the context of the start.
	n.engine, err = engine.Start(context.Background(), engine.Config{
		Dir: n.disk.engine(), Threads: n.cfg.Models.Threads, Context: n.cfg.Models.Context, Reserve: n.cfg.Disk.ReserveBytes, Logger: n.log,
	})
	if err != nil {
		return err
	}
	n.rooms.opened("the model engine", n.engine.Close)
	n.registry = registry.New(n.store)
	n.fleet, err = fleet.New(fleet.Config{
		Node: n.place.Node, Principal: n.principal(), Engine: n.engine, Registry: n.registry, Peers: road{n}, Exchange: n.exchange,
		Guard: n.guard, Carried: n.guard.Carried, Away: !n.cfg.Models.Local, Up: func() bool { return n.engine.Status().Ready }, Logger: n.log,
	})
	if err != nil {
		return err
	}
	n.rooms.runs("the models of the other nodes", n.fleet.Run)
	n.peers.Handle(fleet.Prefix, n.fleet.Handler())
	n.serveBlobs(n.fleet)
	n.packs, err = pack.New(pack.Config{Store: n.store, Guard: n.guard, Engine: n.engine, Fleet: n.fleet, Temp: n.disk.tmp(), Logger: n.log})
	return err
}
