package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/raft"

	"github.com/cloister-os/cloister/store/consensus/rpc"
)

// A follower that fell behind the log gets the data. raft's snapshots are
// metadata, so the leader stages the databases as they are now and streams them:
// nothing is written at the leader, and at the follower only what raft keeps. The
// stage may hold more than the snapshot's index says; what raft sends next is
// then there already, and the state machine skips it.

const (
	pieceBytes = 256 << 10
	// maxPieces may be on their way; each is answered once raft has taken it.
	maxPieces = 16
	// installWithin bounds a transfer, so that a follower that takes a byte a
	// second does not hold the log's tail for ever.
	installWithin = 6 * time.Hour
	// checkEvery is after how many bytes the follower looks at its disk.
	checkEvery = 16 << 20
)

// installation begins a transfer: raft's request without the size, which only
// the end tells.
type installation struct {
	V       int    `cbor:"1,keyasint"` // version of this message
	Term    uint64 `cbor:"2,keyasint"`
	Leader  Peer   `cbor:"3,keyasint"`
	Index   uint64 `cbor:"4,keyasint"`
	At      uint64 `cbor:"5,keyasint"` // the term of the entry at Index
	Servers []byte `cbor:"6,keyasint"`
	Since   uint64 `cbor:"7,keyasint"` // the index of Servers
}

// installed answers it.
type installed struct {
	Term    uint64 `cbor:"1,keyasint"`
	Success bool   `cbor:"2,keyasint"`
}

// InstallSnapshot implements raft.Transport. The data of raft's snapshot is not
// used.
func (t *transport) InstallSnapshot(id raft.ServerID, a raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, _ io.Reader) error {
	n := t.node
	ctx, cancel := context.WithTimeout(context.Background(), installWithin)
	defer cancel()
	go func() {
		select {
		case <-n.dead:
			cancel()
		case <-ctx.Done():
		}
	}()
	n.installing.Add(1)
	defer n.installing.Add(-1)
	n.log.Info("a member is too far behind the log and gets the data", "member", id)
	got, err := n.sendData(ctx, Peer{ID: string(id), Address: string(a)}, &installation{
		V: 1, Term: req.Term, Leader: Peer{ID: n.cfg.NodeID, Address: n.cfg.Address}, Index: req.LastLogIndex, At: req.LastLogTerm,
		Servers: req.Configuration, Since: req.ConfigurationIndex,
	})
	if err != nil {
		return fmt.Errorf("send the data to %s: %w", id, err)
	}
	resp.RPCHeader, resp.Term, resp.Success = req.RPCHeader, got.Term, got.Success
	return nil
}

// sendData streams a fresh stage over a connection of its own.
func (n *Node) sendData(ctx context.Context, p Peer, begin *installation) (*installed, error) {
	dialing, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	conn, err := n.cfg.Peers.Dial(dialing, p, StoreProtocol)
	if err != nil {
		return nil, err
	}
	c := rpc.NewClient(conn, quietAfter, n.told, func(error) {})
	defer c.Close()
	if err := n.greet(ctx, c, p.ID); err != nil {
		return nil, err
	}
	go keepAlive(c)
	b, err := cbor.Marshal(begin)
	if err != nil {
		return nil, err
	}
	outcome := make(chan error, 1)
	var answer []byte
	c.Ask(kindInstall, b, func(b []byte, err error) {
		answer = b
		outcome <- err
	})
	w := &pieces{ctx: ctx, client: c, free: make(chan error, maxPieces)}
	for range maxPieces {
		w.free <- nil
	}
	if _, err = n.machine.Stage(ctx, w); err == nil {
		err = w.end()
	}
	if err != nil {
		select { // the follower's reason is the better one
		case refused := <-outcome:
			err = errors.Join(refused, err)
		default:
		}
		return nil, err
	}
	select {
	case err = <-outcome:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	var got installed
	return &got, cbor.Unmarshal(answer, &got)
}

// keepAlive speaks while others do not, until the connection ends.
func keepAlive(c *rpc.Client) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.Ask(kindPing, nil, func([]byte, error) {})
		case <-c.Done():
			return
		}
	}
}

// pieces sends what is written to it. An empty piece is the end.
type pieces struct {
	ctx    context.Context
	client *rpc.Client
	free   chan error // an answer, or leave to send one more
}

// Write implements io.Writer.
func (w *pieces) Write(b []byte) (int, error) {
	for done := 0; done < len(b); {
		k := min(len(b)-done, pieceBytes)
		if err := w.send(b[done : done+k]); err != nil {
			return done, err
		}
		done += k
	}
	return len(b), nil
}

func (w *pieces) send(b []byte) error {
	select {
	case err := <-w.free:
		if err != nil {
			return err
		}
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
	w.client.Ask(kindPiece, b, func(_ []byte, err error) { w.free <- err })
	return nil
}

func (w *pieces) end() error { return w.send(nil) }

// install answers kindInstall: raft is told of a snapshot whose bytes come piece
// by piece.
func (in *inbound) install(id uint64, b []byte) error {
	n := in.node
	var i installation
	if err := cbor.Unmarshal(b, &i); err != nil {
		return err
	}
	if in.incoming != nil {
		return errors.New("two transfers at once over one connection")
	}
	in.incoming = &incoming{node: n, conn: in.conn, pieces: make(chan piece, maxPieces+1)}
	req := &raft.InstallSnapshotRequest{
		RPCHeader:       raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(i.Leader.ID), Addr: []byte(i.Leader.Address)},
		SnapshotVersion: raft.SnapshotVersionMax, Term: i.Term, Leader: []byte(i.Leader.Address), LastLogIndex: i.Index, LastLogTerm: i.At,
		Configuration: i.Servers, ConfigurationIndex: i.Since,
	}
	in.incoming.req = req
	answer := make(chan raft.RPCResponse, 1)
	r := in.incoming
	n.tasks.Go(func() {
		n.log.Info("the leader sends this node the data, since it is too far behind the log")
		if !n.transport.give(raft.RPC{Command: req, Reader: r, RespChan: answer}) {
			return
		}
		defer n.transport.taking.Store(0)
		select {
		case resp := <-answer:
			in.tell(id, resp)
		case <-n.transport.stop:
		}
	})
	return nil
}

// tell answers the leader with what raft made of the data.
func (in *inbound) tell(id uint64, resp raft.RPCResponse) {
	got, ok := resp.Response.(*raft.InstallSnapshotResponse)
	err := resp.Error
	if err == nil && !ok {
		err = errors.New("raft gave no answer")
	}
	var b []byte
	if err == nil {
		b, err = cbor.Marshal(installed{Term: got.Term, Success: got.Success})
	}
	if err != nil {
		in.node.log.Error("the leader's data was not taken over", "error", err)
		_ = in.conn.Send(rpc.Refusal, id, []byte(err.Error()))
		return
	}
	_ = in.conn.Send(rpc.Answer, id, b)
}

// piece answers kindPiece.
func (in *inbound) piece(id uint64, b []byte) error {
	if in.incoming == nil {
		return errors.New("a piece of no transfer")
	}
	select {
	case in.incoming.pieces <- piece{id, b}:
		return nil
	default:
		return fmt.Errorf("more than %d pieces at once", maxPieces)
	}
}

type piece struct {
	id uint64
	b  []byte
}

// incoming is a transfer as raft reads it, on raft's own goroutine.
type incoming struct {
	node   *Node
	conn   *rpc.Conn
	req    *raft.InstallSnapshotRequest
	pieces chan piece

	rest    []byte
	size    int64
	checked int64
	err     error // io.EOF after the last piece
}

// Read implements io.Reader. It ends well only with the empty piece; raft refuses
// anything else.
func (i *incoming) Read(b []byte) (int, error) {
	if i.size == 0 && i.node.raft.CurrentTerm() == i.req.Term {
		i.node.transport.taking.Store(i.req.Term)
	}
	if len(i.rest) == 0 && i.err == nil {
		i.err = i.next()
	}
	if i.err != nil {
		return 0, i.err
	}
	k := copy(b, i.rest)
	i.rest = i.rest[k:]
	i.size += int64(k)
	return k, nil
}

func (i *incoming) next() error {
	select {
	case p := <-i.pieces:
		return i.accept(p)
	default:
	}
	select {
	case p := <-i.pieces:
		return i.accept(p)
	case <-i.conn.Done():
		return fmt.Errorf("the data was cut after %d bytes: %w", i.size, errors.Join(i.conn.Err(), io.ErrUnexpectedEOF))
	case <-i.node.dead:
		return i.node.closed()
	}
}

func (i *incoming) accept(p piece) error {
	if i.size >= i.checked {
		i.checked = i.size + checkEvery
		if err := i.room(); err != nil {
			return err
		}
	}
	_ = i.conn.Send(rpc.Answer, p.id, nil)
	if len(p.b) == 0 {
		i.req.Size = i.size // raft compares, on this goroutine
		return io.EOF
	}
	i.rest = p.b
	return nil
}

// room refuses data that the disk cannot hold: the snapshot is followed by new
// databases of about its size.
func (i *incoming) room() error {
	cfg := i.node.cfg
	if cfg.ReserveBytes < 0 {
		return nil
	}
	free, err := cfg.FreeBytes(cfg.Dir)
	if err != nil {
		return err
	}
	if need := i.size + cfg.ReserveBytes + 2*checkEvery; free < need {
		return fmt.Errorf("the disk of %s has %d MiB free and needs %d MiB to take over the leader's data; free some space and it goes on by itself",
			cfg.Dir, free>>20, need>>20)
	}
	return nil
}

// clean removes what cannot be used after a crash: log entries below a snapshot
// that was installed as a whole.
func (n *Node) clean() error {
	snaps, err := n.snapshots.List()
	if err != nil || len(snaps) == 0 {
		return err
	}
	first, err := n.logs.FirstIndex()
	if err != nil {
		return err
	}
	last, err := n.logs.LastIndex()
	if err != nil || last == 0 || last >= snaps[0].Index {
		return err
	}
	return n.logs.DeleteRange(first, last)
}
