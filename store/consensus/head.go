package consensus

import "github.com/cloister-os/cloister/store"

// Head is the newest version that is visible here and the chain over all that
// was decided up to it: nodes at one version have one chain.
func (n *Node) Head() (store.Version, [32]byte) {
	v, _, chain := n.machine.Head()
	return v, chain
}
