package consensus

import (
	"context"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus/rpc"
)

// hello is the first frame of a connection of the store's protocol, and its
// answer: who each end is, and what the other must know before it goes on.
type hello struct {
	V       int    `cbor:"1,keyasint"` // version of this message
	Node    string `cbor:"2,keyasint"`
	Boot    uint64 `cbor:"3,keyasint"` // its life
	Start   proof  `cbor:"4,keyasint"` // what its disk said when it started
	Address string `cbor:"5,keyasint"`
	Program string `cbor:"6,keyasint"`
	Format  int    `cbor:"7,keyasint"` // newest data format that it can write
	// Only in an answer: a sentence for a node that must stop, and whether it is a
	// member no more.
	Verdict string `cbor:"8,keyasint,omitempty"`
	Removed bool   `cbor:"9,keyasint,omitempty"`
	Vouch   bool   `cbor:"10,keyasint,omitempty"` // this end has compared the other's disk with what it knows
	Mark    uint64 `cbor:"11,keyasint,omitempty"` // its process
}

func (n *Node) hello() hello {
	return hello{
		V: 1, Node: n.cfg.NodeID, Boot: n.life, Mark: n.mark, Start: n.known.start, Address: n.cfg.Address,
		Program: n.cfg.Program, Format: store.Format,
	}
}

// greet says hello to a member and hears who it is, and whether this node may go
// on.
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
	switch {
	case h.Removed:
		n.leave()
		return errors.New(h.Verdict)
	case h.Verdict != "":
		n.fail(errors.New(h.Verdict))
		return errors.New(h.Verdict)
	}
	if verdict, _ := n.meet(h, id); verdict != "" {
		return unwelcome(verdict)
	}
	if h.Vouch {
		n.known.meets(id)
	}
	return nil
}

// unwelcome is why this node will have nothing to do with a peer.
type unwelcome string

func (w unwelcome) Error() string { return string(w) }

// meet judges a peer by its hello; empty = nothing is wrong.
func (n *Node) meet(h hello, id string) (verdict string, vouch bool) {
	if h.Node != id {
		return fmt.Sprintf("the certificate says node %s and the node says that it is %s: give each node its own data folder", id, h.Node), false
	}
	return n.known.judge(h, n.Leads())
}

// hello answers a peer's hello.
func (in *inbound) hello(id uint64, b []byte) error {
	n := in.node
	var h hello
	if err := cbor.Unmarshal(b, &h); err != nil {
		return in.conn.Send(rpc.Refusal, id, []byte("a hello that cannot be read: it is no node of this program"))
	}
	answer := n.hello()
	if n.Leads() && n.gone(in.peer) {
		answer.Removed, answer.Verdict = true, removedSentence(in.peer)
	} else {
		answer.Verdict, answer.Vouch = n.meet(h, in.peer)
	}
	if answer.Verdict == "" {
		in.greeted = true
		in.boot.Store(h.Boot)
	} else {
		n.log.Warn("a node was refused", "member", in.peer, "reason", answer.Verdict)
	}
	own, err := cbor.Marshal(answer)
	if err != nil {
		return err
	}
	return in.conn.Send(rpc.Answer, id, own)
}

// gone reports whether a node is no member, by the changes that are committed and by
// those that are not: a removal may be undone, and a new member says hello before its
// addition is.
func (n *Node) gone(id string) bool {
	_, member := n.member(id)
	return !member && !n.known.member(id)
}

func removedSentence(id string) string {
	return fmt.Sprintf("node %s was removed from the cluster: empty its data folder and join it again, or leave it off", id)
}

// removedKey marks, beside the log, a node that was removed.
var removedKey = []byte("cloister/removed")

// leave ends a node that was removed, for ever.
func (n *Node) leave() {
	select {
	case <-n.dead:
		return
	default:
	}
	if err := n.logs.SetUint64(removedKey, 1); err != nil {
		n.log.Error("that this node was removed could not be written down", "error", err)
	}
	n.fail(errors.New(removedSentence(n.cfg.NodeID)))
}

// wasRemoved refuses to open the store of a node that was removed.
func (n *Node) wasRemoved() error {
	v, err := n.logs.GetUint64(removedKey)
	if err == nil && v == 1 {
		err = fmt.Errorf("%w: %s", store.ErrInvalid, removedSentence(n.cfg.NodeID))
	}
	return err
}

// farewell tells a node that it was removed.
func (v *visitors) farewell(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for in := range v.all {
		if in.peer == id {
			_ = in.conn.Send(kindFarewell, 0, nil)
		}
	}
}
