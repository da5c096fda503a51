package node

import (
	"net/http"

	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/room"
	"github.com/cloister-os/cloister/ui/view"
)

// pages is what a browser sees.
func (n *Node) pages() (http.Handler, error) {
	rooms, err := room.New(room.Config{
		Store: n.store, Blobs: n.blobs, Door: n.guard, Sessions: n.sessions, People: n.people, Sources: n.sources, Runs: n.runs,
		Ask: n.ask, Memories: n.memories,
		Records: guard.Records{Guard: n.guard, Log: n.audit}, Packs: n.packs, Policies: n.policies,
		Engine: func() (bool, string) { s := n.engine.Status(); return s.Ready, s.Reason },
		Prints: view.Fingerprints{Certificate: n.ca.Fingerprint(), LogKey: n.audit.Fingerprint()}, Logger: n.log,
	})
	if err != nil {
		return nil, err
	}
	n.rooms.opened("the pages", rooms.Close)
	cfg := rooms.Pages()
	cfg.Nodes = nodePages{n}
	cfg.Node, cfg.Version, cfg.URL, cfg.SetUp = n.cfg.Node, n.version, n.URL(), n.setupDone
	cfg.ReadOnly = func() string {
		if err := n.store.Writable(); err != nil {
			return ui.Sentence(err)
		}
		return ""
	}
	return ui.New(cfg)
}
