package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus/rpc"
	"github.com/cloister-os/cloister/store/machine"
)

// maxForwarded bounds the bytes that a node has sent to the leader and that have
// not come home. It is the flow control of a connection: the sender keeps it.
const maxForwarded = 4 << 20

// forward sends one batch to the leader.
func (f *former) forward(role role) {
	n := f.node
	for {
		free, eased := n.origin.room()
		if free {
			break
		}
		select {
		case <-eased:
		case <-role.changed:
			return
		case <-n.dead:
			return
		}
	}
	txs := f.queue.take(n.dead, role.changed)
	own := txs[:0]
	for _, p := range txs {
		if p.from == nil { // what a peer sent to a leader of the past it sends again itself
			own = append(own, p)
		}
	}
	if len(own) == 0 {
		return
	}
	lowest := n.origin.number(own)
	// A connection that broke is reported by its end; everything is sent again then.
	_ = role.leader.Send(kindForward, 0, appendForward(nil, n.origin.boot.Load(), lowest, own))
}

// A forward is the origin's boot and lowest sequence, 8 bytes each, and for each
// transaction its class (1), sequence (8), the length of its operations (4) and
// these as a group holds them.
func appendForward(b []byte, boot, lowest uint64, txs []*pending) []byte {
	size := 16
	for _, p := range txs {
		size += p.size + 32
	}
	b = append(make([]byte, 0, size), b...)
	b = binary.BigEndian.AppendUint64(b, boot)
	b = binary.BigEndian.AppendUint64(b, lowest)
	for _, p := range txs {
		b = append(b, byte(p.class))
		b = binary.BigEndian.AppendUint64(b, p.seq)
		at := len(b)
		b = append(b, 0, 0, 0, 0)
		b = machine.AppendOps(b, p.tx.Ops())
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	return b
}

var errForward = errors.New("a malformed forward: the peer is no node of this program")

// inbound is a peer's connection to this node.
type inbound struct {
	node    *Node
	peer    string
	conn    *rpc.Conn
	greeted bool // it said hello; of the goroutine that reads
	boot    atomic.Uint64
	lowest  atomic.Uint64
	wants   atomic.Int64 // until when it wants to hear of commits, in ns

	incoming *incoming // the data that it sends; of the goroutine that reads
}

// origin is the peer as the proposer of what it forwarded.
func (in *inbound) origin() machine.Origin {
	return machine.Origin{Node: in.peer, Boot: in.boot.Load(), Lowest: in.lowest.Load()}
}

// forward takes what the peer forwards into the queue. What arrives while this
// node does not lead is dropped: the peer sends it again to who does.
func (in *inbound) forward(b []byte) error {
	n := in.node
	if len(b) < 16 {
		return errForward
	}
	in.boot.Store(binary.BigEndian.Uint64(b))
	in.lowest.Store(max(in.lowest.Load(), binary.BigEndian.Uint64(b[8:])))
	if !n.helm.leading() {
		return nil
	}
	in.expect()
	now := time.Now()
	for b = b[16:]; len(b) > 0; {
		if len(b) < 13 {
			return errForward
		}
		class, seq, size := b[0], binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint32(b[9:])
		b = b[13:]
		if uint64(size) > uint64(len(b)) || class > byte(store.Bulk) || seq == 0 {
			return errForward
		}
		p := &pending{from: in, raw: b[:size:size], class: store.Class(class), seq: seq, asked: now}
		b = b[size:]
		if err := in.take(p); err != nil {
			in.refuse(err, seq)
		}
	}
	return nil
}

func (in *inbound) take(p *pending) (err error) {
	if p.size, p.logs, err = machine.CheckOps(p.raw); err != nil {
		return fmt.Errorf("%w: %w", store.ErrInvalid, err)
	}
	if err := in.node.reserve.check(p.size); err != nil {
		return err
	}
	return in.node.former.queue.push(p)
}

// refusals are the errors that a leader may refuse a transaction with, by their
// number on the wire.
var refusals = []error{store.ErrBusy, store.ErrReadOnly, store.ErrInvalid, store.ErrTooLarge}

// refuse tells the peer that a transaction did not enter the log.
func (in *inbound) refuse(err error, seq uint64) {
	b := binary.BigEndian.AppendUint64(nil, seq)
	for i, kind := range refusals {
		if errors.Is(err, kind) {
			b = append(b, byte(i))
			break
		}
	}
	if len(b) == 8 {
		return // it will be sent again
	}
	_ = in.conn.Send(kindRefused, 0, append(b, err.Error()...))
}

// refusedBy is refuse at the other end.
func (n *Node) refusedBy(b []byte) error {
	if len(b) < 9 || int(b[8]) >= len(refusals) {
		return errForward
	}
	err := &refusedError{refusals[b[8]], string(b[9:])}
	n.origin.refused(binary.BigEndian.Uint64(b), err)
	return nil
}

// refusedError is a leader's refusal.
type refusedError struct {
	kind error
	text string
}

func (e *refusedError) Error() string { return e.text }

// Unwrap makes errors.Is find the kind.
func (e *refusedError) Unwrap() error { return e.kind }
