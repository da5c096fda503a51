package consensus

import (
	"context"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus/rpc"
)

// hello is the first frame of a connection of the store's protocol, and its
// answer: who each end is.
type hello struct {
	V       int    `cbor:"1,keyasint"` // version of this message
	Node    string `cbor:"2,keyasint"`
	Boot    uint64 `cbor:"3,keyasint"`
	Address string `cbor:"4,keyasint"`
	Program string `cbor:"5,keyasint"`
	Format  int    `cbor:"6,keyasint"` // newest data format that it can write
}

func (n *Node) hello() hello {
	return hello{
		V: 1, Node: n.cfg.NodeID, Boot: n.origin.boot.Load(), Address: n.cfg.Address,
		Program: n.cfg.Program, Format: store.Format,
	}
}

// greet says hello to a member and hears who it is.
func (n *Node) greet(ctx context.Context, c *rpc.Client, id string) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	b, err := cbor.Marshal(n.hello())
	if err != nil {
		return fmt.Errorf("say hello: %w", err)
	}
	if b, err = c.Call(ctx, kindHello, b); err != nil {
		return fmt.Errorf("say hello to %s: %w", id, err)
	}
	var h hello
	if err := cbor.Unmarshal(b, &h); err != nil {
		return fmt.Errorf("the hello of %s: %w", id, err)
	}
	return n.meet(h, id)
}

// meet judges a peer by its hello.
func (n *Node) meet(h hello, id string) error {
	if h.Node != id {
		return fmt.Errorf("the certificate says node %s and the node says that it is %s: give each node its own data folder", id, h.Node)
	}
	return nil
}

// hello answers a peer's hello.
func (in *inbound) hello(id uint64, b []byte) error {
	var h hello
	err := cbor.Unmarshal(b, &h)
	if err == nil {
		err = in.node.meet(h, in.peer)
	}
	if err != nil {
		return in.conn.Send(rpc.Refusal, id, []byte(err.Error()))
	}
	in.greeted = true
	in.boot.Store(h.Boot)
	own, err := cbor.Marshal(in.node.hello())
	if err != nil {
		return err
	}
	return in.conn.Send(rpc.Answer, id, own)
}

// mayVote is nil when this node may vote and stand for election.
func (n *Node) mayVote() error { return nil }
