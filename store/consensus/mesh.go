package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/cloister-os/cloister/store/consensus/rpc"
)

// The frames of the store's protocol. Those to the server are questions but
// forward; those from it, beside answers, are told unasked.
const (
	kindHello    byte = 2  // the first frame: who is there, see hello.go
	kindPing     byte = 3  // says that this end lives
	kindForward  byte = 4  // transactions for the leader
	kindRead     byte = 5  // the commit index for a linearizable read; term → term, index
	kindConfirm  byte = 6  // whether a term has ended; → term
	kindStatus   byte = 7  // how a node does, see status.go
	kindManage   byte = 8  // a change of the members
	kindInstall  byte = 9  // the data follows, see install.go
	kindPiece    byte = 10 // a piece of it
	kindCommit   byte = 64 // to the asker: term and index that is committed
	kindRefused  byte = 65 // to the asker: a transaction that did not enter the log
	kindFarewell byte = 66 // to the asker: it is a member no more
	kindHalt     byte = 67 // to the asker: it differs from the others at a version
)

const (
	dialWithin  = 2 * time.Second
	askWithin   = 5 * time.Second
	pingEvery   = time.Second
	quietAfter  = 5 * time.Second // a peer that says nothing for so long is gone
	redialFirst = 20 * time.Millisecond
	redialMax   = time.Second
	recheck     = 200 * time.Millisecond // whether this node still leads
)

// mesh keeps a connection to every other member.
type mesh struct {
	node *Node

	mu    sync.Mutex       // guards all below
	links map[string]*link // nil once the node ends
}

// link is this node's own connection to one member: what it asks of it.
type link struct {
	node *Node
	id   string
	ctx  context.Context // ends with the membership
	stop context.CancelFunc

	mu      sync.Mutex // guards all below
	address string
	client  *rpc.Client   // nil while there is none
	up      chan struct{} // closed while there is one
	failure error         // of the last attempt
}

func newMesh(n *Node) *mesh { return &mesh{node: n, links: map[string]*link{}} }

// servers is the latest configuration of the cluster; empty when this node is
// not in one yet.
func (n *Node) servers() []raft.Server {
	return n.raft.GetConfiguration().Configuration().Servers
}

// follow makes the links those of the configuration.
func (m *mesh) follow(servers []raft.Server) {
	if m.node.cfg.Peers == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.links == nil {
		return
	}
	keep := map[string]bool{}
	for _, s := range servers {
		id := string(s.ID)
		if id == m.node.cfg.NodeID {
			continue
		}
		keep[id] = true
		if l := m.links[id]; l != nil {
			l.move(string(s.Address))
			continue
		}
		ctx, stop := context.WithCancel(context.Background())
		l := &link{node: m.node, id: id, address: string(s.Address), ctx: ctx, stop: stop, up: make(chan struct{})}
		m.links[id] = l
		m.node.tasks.Go(l.run)
	}
	for id, l := range m.links {
		if !keep[id] {
			l.stop()
			delete(m.links, id)
		}
	}
}

// close ends all links.
func (m *mesh) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.links {
		l.stop()
	}
	m.links = nil
}

// client is the connection to a member, nil while there is none.
func (m *mesh) client(id string) *rpc.Client {
	m.mu.Lock()
	l := m.links[id]
	m.mu.Unlock()
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.client
}

// refused is why this node refuses a member, empty when it does not.
func (m *mesh) refused(id string) string {
	m.mu.Lock()
	l := m.links[id]
	m.mu.Unlock()
	if l == nil {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var why unwelcome
	errors.As(l.failure, &why)
	return string(why)
}

// awaitMember waits while this node leads and a member is away.
func (n *Node) awaitMember(id string) {
	n.mesh.mu.Lock()
	l := n.mesh.links[id]
	n.mesh.mu.Unlock()
	if l == nil {
		return
	}
	for n.helm.leading() {
		l.mu.Lock()
		up := l.up
		l.mu.Unlock()
		select {
		case <-up:
			return
		case <-l.ctx.Done():
			return
		case <-n.dead:
			return
		case <-time.After(recheck):
		}
	}
}

func (l *link) move(address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.address = address
}

// run keeps the connection until the member is one no more.
func (l *link) run() {
	ctx := l.ctx
	wait := redialFirst
	for {
		began := time.Now()
		err := l.connect(ctx)
		if ctx.Err() != nil {
			return
		}
		l.note(err)
		if time.Since(began) > redialMax {
			wait = redialFirst
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		wait = min(2*wait, redialMax)
	}
}

// note keeps why there is no connection, and says so once.
func (l *link) note(err error) {
	l.mu.Lock()
	before := l.failure
	l.failure = err
	l.mu.Unlock()
	if before == nil || before.Error() != err.Error() {
		l.node.log.Info("no connection to a member", "member", l.id, "error", err)
	}
}

// connect opens the connection and returns why it ended.
func (l *link) connect(ctx context.Context) error {
	n := l.node
	l.mu.Lock()
	p := Peer{ID: l.id, Address: l.address}
	l.mu.Unlock()
	dialing, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	conn, err := n.cfg.Peers.Dial(dialing, p, StoreProtocol)
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	client := rpc.NewClient(conn, quietAfter, n.told, func(error) { close(ended) })
	defer client.Close()
	if err := n.greet(ctx, client, l.id); err != nil {
		return err
	}
	l.set(client)
	defer l.set(nil)
	n.ask1(l.id)
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			client.Ask(kindPing, nil, func([]byte, error) {})
		case <-ended:
			return client.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *link) set(c *rpc.Client) {
	l.mu.Lock()
	l.client = c
	if c != nil {
		l.failure = nil
		close(l.up)
	} else {
		l.up = make(chan struct{})
	}
	l.mu.Unlock()
	l.node.helm.look()
}

// told is given what the leader says unasked.
func (n *Node) told(kind byte, _ uint64, b []byte) error {
	switch kind {
	case kindCommit:
		if len(b) != 16 {
			return errForward
		}
		n.learn(binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]))
		return nil
	case kindRefused:
		return n.refusedBy(b)
	case kindFarewell:
		n.leave()
		return nil
	case kindHalt:
		if len(b) != 8 {
			return errForward
		}
		n.fail(differs(binary.BigEndian.Uint64(b)))
		return nil
	default:
		return fmt.Errorf("a frame of kind %d: the peer is a later version of this program", kind)
	}
}

// serve takes the connections of the members until the node ends.
func (n *Node) serve() {
	listener := n.cfg.Peers.Listener(StoreProtocol)
	n.tasks.Go(func() {
		<-n.dead
		listener.Close()
	})
	for {
		conn, err := listener.Accept()
		if err != nil {
			select {
			case <-n.dead:
				return
			case <-time.After(100 * time.Millisecond):
				n.log.Warn("a member's connection was not accepted", "error", err)
				continue
			}
		}
		peer, ok := conn.(PeerConn)
		if !ok {
			n.log.Error("a connection does not say whose it is")
			conn.Close()
			continue
		}
		n.tasks.Go(func() { n.attend(peer) })
	}
}

// attend answers one member until its connection ends.
func (n *Node) attend(conn PeerConn) {
	in := &inbound{node: n, peer: conn.PeerID(), conn: rpc.New(conn, quietAfter)}
	n.visitors.add(in)
	defer n.visitors.remove(in)
	go func() {
		select {
		case <-n.dead:
			in.conn.Close()
		case <-in.conn.Done():
		}
	}()
	if err := in.conn.Read(in.answer); !errors.Is(err, rpc.ErrClosed) {
		n.log.Debug("a member's connection ended", "member", in.peer, "error", err)
	}
}

// answer handles one frame. It must not wait.
func (in *inbound) answer(kind byte, id uint64, b []byte) error {
	n := in.node
	if kind != kindHello && !in.greeted {
		return errors.New("it did not say hello first")
	}
	switch kind {
	case kindHello:
		return in.hello(id, b)
	case kindPing:
		return in.conn.Send(rpc.Answer, id, nil)
	case kindForward:
		return in.forward(b)
	case kindRead:
		return in.read(id, b)
	case kindConfirm:
		return in.conn.Send(rpc.Answer, id, binary.BigEndian.AppendUint64(nil, n.raft.CurrentTerm()))
	case kindStatus:
		return in.status(id, b)
	case kindInstall:
		return in.install(id, b)
	case kindPiece:
		return in.piece(id, b)
	case kindManage:
		n.tasks.Go(func() { in.manage(id, b) })
		return nil
	default:
		return in.conn.Send(rpc.Refusal, id, fmt.Appendf(nil, "a question of kind %d: this node runs an earlier version of the program", kind))
	}
}

// visitors are the members' connections to this node.
type visitors struct {
	mu  sync.Mutex
	all map[*inbound]bool
}

func (v *visitors) add(in *inbound) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.all == nil {
		v.all = map[*inbound]bool{}
	}
	v.all[in] = true
}

func (v *visitors) remove(in *inbound) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.all, in)
}

// committed tells those who wait for something that an entry is committed, before
// raft would with its next message.
func (v *visitors) committed(term, index uint64) {
	now := time.Now().UnixNano()
	v.mu.Lock()
	defer v.mu.Unlock()
	var b []byte
	for in := range v.all {
		if in.wants.Load() < now {
			continue
		}
		if b == nil {
			b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, term), index)
		}
		_ = in.conn.Send(kindCommit, 0, b)
	}
}

// expect says that the peer has forwarded something and wants to know when it is
// committed.
func (in *inbound) expect() { in.wants.Store(time.Now().Add(askWithin).UnixNano()) }

// halt tells a node that it differs from the others.
func (v *visitors) halt(id string, version uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for in := range v.all {
		if in.peer == id {
			_ = in.conn.Send(kindHalt, 0, binary.BigEndian.AppendUint64(nil, version))
		}
	}
}
