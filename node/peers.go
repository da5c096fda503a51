package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"time"

	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/node/cluster"
	"github.com/cloister-os/cloister/node/cluster/roster"
	"github.com/cloister-os/cloister/store"
)

// firstNode is the name of a node that was given none.
const firstNode = "node-1"

// openPlace finds out who this node is: what its data folder remembers, or, in a
// new folder, the founder of a cluster of one.
func (n *Node) openPlace(context.Context) (err error) {
	n.place, err = cluster.ReadPlace(n.cfg.Data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := n.halfJoined(); err != nil {
			return err
		}
		id := make([]byte, 16)
		if _, err := rand.Read(id); err != nil {
			return err
		}
		n.place = cluster.Place{Cluster: hex.EncodeToString(id), Node: or(n.cfg.Node, firstNode), Founder: true}
	case err != nil:
		return err
	case n.cfg.Node != "" && n.cfg.Node != n.place.Node:
		return fmt.Errorf("the data folder %s belongs to node %s: start it with --node %s, or leave the name out", n.cfg.Data, n.place.Node, n.place.Node)
	}
	n.cfg.Node = n.place.Node
	n.place.Address = or(n.cfg.Cluster.Peer, n.place.Address)
	n.place.Service = or(n.cfg.Cluster.Name, n.place.Service)
	n.cfg.Cluster.Peer, n.cfg.Cluster.Name = n.place.Address, n.place.Service
	if err := n.place.Write(n.cfg.Data); err != nil {
		return fmt.Errorf("note which cluster %s belongs to: %w", n.cfg.Data, reason(err))
	}
	return nil
}

// halfJoined refuses a folder that has keys and nothing else: whoever founded a
// cluster on them would have two of one identity.
func (n *Node) halfJoined() error {
	keys, err := filled(n.disk.seal())
	if err != nil || !keys {
		return err
	}
	data, err := filled(n.disk.raft())
	if err == nil && !data {
		err = fmt.Errorf("the folder %s holds keys and no data: cloister node join was interrupted; empty the folder and let the node join again", n.cfg.Data)
	}
	return err
}

func or(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}

// identity is what the certificate for other nodes says.
func (n *Node) identity() seal.Identity {
	id := seal.Identity{Cluster: n.place.Cluster, Node: n.place.Node, Joined: n.place.Joined}
	if host, _, err := net.SplitHostPort(n.place.Address); err == nil {
		id.Names, id.IPs = split([]string{host})
	}
	return id
}

// openPort opens the way to the other nodes, when there may be any.
func (n *Node) openPort(context.Context) (err error) {
	if n.peerCert, err = n.ca.NodeCert(n.identity(), n.certLife, nil); err != nil {
		return err
	}
	if n.place.Address == "" {
		return nil
	}
	n.port, err = cluster.Open(cluster.Config{
		Address: n.place.Address, Cluster: n.place.Cluster, Node: n.place.Node, CA: n.ca.Certificate(), Certificate: n.peerCert.Get,
		Admit: n.admit, Lookup: n.lookup, Program: n.version, Format: n.format, Logger: n.log,
	})
	if err != nil {
		return fmt.Errorf("%w: choose another with --cluster-peer", err)
	}
	n.rooms.opened("the peer port", n.port.Close)
	n.peers.HandleFunc("GET /cluster/facts", n.serveFacts)
	n.peers.HandleFunc("POST /cluster/announce", n.serveAnnounce)
	n.port.Handle(&n.peers)
	return nil
}

// admit asks the roster, once there is one.
func (n *Node) admit(id seal.Identity) error {
	if r := n.roster.Load(); r != nil {
		return r.Admit(id)
	}
	return nil
}

// lookup is the peer address of a node.
func (n *Node) lookup(node string) (string, bool) {
	if r := n.roster.Load(); r != nil {
		if address, ok := r.Addresses()[node]; ok {
			return address, true
		}
	}
	n.placeMu.Lock()
	defer n.placeMu.Unlock()
	address, ok := n.place.Members[node]
	return address, ok
}

// format is the data format that the cluster works at.
func (n *Node) format() int {
	if s := n.formats.Load(); s != nil {
		return s.Format()
	}
	return store.OldestFormat
}

// openRoster begins to follow who belongs to the cluster.
func (n *Node) openRoster(ctx context.Context) error {
	r, err := roster.New(ctx, roster.Config{
		Store: n.store, Raft: n.store, Door: n.guard, Cluster: n.place.Cluster, Node: n.place.Node, Address: n.place.Address,
		CA: n.ca.Certificate(), Handover: n.keys.Handover, Facts: n.facts, Service: n.place.Service, Logger: n.log,
	})
	if err != nil {
		return err
	}
	if r.Removed(n.place.Joined) {
		return errRemoved(n.place.Node, n.cfg.Data)
	}
	n.roster.Store(r)
	if err := n.web.Attach(ctx, n.store, n.guard); err != nil {
		return err
	}
	n.rooms.runs("the organisation's certificate", n.web.Run)
	n.rooms.runs("the roster of nodes", func(ctx context.Context) error { return r.Run(ctx, n.rosterChanged) })
	if n.port != nil {
		n.port.HandleJoin(r.Join)
	}
	n.rosterChanged()
	return nil
}

func errRemoved(node, data string) error {
	return fmt.Errorf("node %s was removed from its cluster: its data folder %s is of no use any more; let it join again with an empty one", node, data)
}

// rosterChanged ends what a change of the roster ends, and remembers addresses.
func (n *Node) rosterChanged() {
	r := n.roster.Load()
	if n.port != nil {
		n.port.Review()
	}
	if r.Removed(n.place.Joined) {
		n.rooms.fail(errRemoved(n.place.Node, n.cfg.Data))
		return
	}
	n.placeMu.Lock()
	defer n.placeMu.Unlock()
	if others := r.Addresses(); !maps.Equal(others, n.place.Members) {
		n.place.Members = others
		if err := n.place.Write(n.cfg.Data); err != nil {
			n.log.Warn("the other nodes' addresses could not be noted down", "err", err)
		}
	}
}

// announcement is what this node says of itself.
func (n *Node) announcement() roster.Announcement {
	return roster.Announcement{Address: n.place.Address, URL: n.URL(), Joined: n.place.Joined}
}

// How often a node that is not up asks to be added, or to have its address known.
const (
	announceSoon = 250 * time.Millisecond
	announceLate = 2 * time.Second
	askAgain     = 10 * time.Second
)

// announce says who and where this node is until that is known: to its own store
// when it is up, and to the others before that. It goes on as long as the node
// runs: one that no longer hears from the cluster asks whether it still belongs.
func (n *Node) announce(ctx context.Context) error {
	wait, known := announceSoon, false
	for {
		var err error
		if known && n.store.Healthy(ctx) == nil {
			wait = askAgain
		} else {
			known, err = n.announceOnce(ctx, known)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, cluster.ErrRemoved):
			return errRemoved(n.place.Node, n.cfg.Data)
		case errors.Is(err, cluster.ErrRefused):
			n.front.enter(phase{name: "refused", sentence: "The cluster refuses this node: " + err.Error() + "."})
			n.log.Error("the cluster refuses this node", "err", err)
			wait = announceLate
		case err != nil:
			n.log.Debug("this node is not known to the cluster yet", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, announceLate)
	}
}

// announceOnce announces this node to its own store, or, while that does not
// answer, to the others.
func (n *Node) announceOnce(ctx context.Context, known bool) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if r := n.roster.Load(); r != nil && !known {
		err := r.Announce(ctx, n.place.Node, n.announcement())
		return err == nil, err
	}
	n.placeMu.Lock()
	members := maps.Clone(n.place.Members)
	n.placeMu.Unlock()
	for node := range members {
		if err = n.tell(ctx, node); err == nil {
			return known, nil // the store will show when it is done
		}
		if errors.Is(err, cluster.ErrRemoved) {
			break
		}
	}
	return known, err
}

// tell announces this node to another.
func (n *Node) tell(ctx context.Context, node string) error {
	b, err := json.Marshal(n.announcement())
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+node+"/cluster/announce", bytes.NewReader(b))
	if err != nil {
		return err
	}
	res, err := n.port.Client().Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	switch {
	case err != nil || res.StatusCode == http.StatusNoContent:
		return err
	case res.StatusCode == http.StatusGone:
		return fmt.Errorf("%w: %s", cluster.ErrRemoved, bytes.TrimSpace(text))
	case res.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%w: %s", cluster.ErrRefused, bytes.TrimSpace(text))
	}
	return fmt.Errorf("node %s: %s", node, bytes.TrimSpace(text))
}

// serveAnnounce takes in what another node says of itself.
func (n *Node) serveAnnounce(w http.ResponseWriter, r *http.Request) {
	var a roster.Announcement
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&a); err != nil {
		http.Error(w, "that is no announcement", http.StatusBadRequest)
		return
	}
	list := n.roster.Load()
	if list == nil {
		http.Error(w, "this node is starting", http.StatusServiceUnavailable)
		return
	}
	switch err := list.Announce(r.Context(), cluster.Caller(r.Context()), a); {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, cluster.ErrRemoved):
		http.Error(w, err.Error(), http.StatusGone)
	case errors.Is(err, cluster.ErrRefused):
		http.Error(w, err.Error(), http.StatusForbidden)
	default:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// facts asks a node for what only it knows.
func (n *Node) facts(ctx context.Context, node string) (roster.Facts, error) {
	if node == n.place.Node {
		return n.ownFacts()
	}
	if n.port == nil {
		return roster.Facts{}, errors.New("the peer port is closed")
	}
	var f roster.Facts
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+node+"/cluster/facts", nil)
	if err != nil {
		return f, err
	}
	res, err := n.port.Client().Do(req)
	if err != nil {
		return f, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return f, fmt.Errorf("node %s answered %s", node, res.Status)
	}
	return f, json.NewDecoder(io.LimitReader(res.Body, 64<<10)).Decode(&f)
}

func (n *Node) ownFacts() (roster.Facts, error) {
	c, err := n.peerCert.Get()
	if err != nil {
		return roster.Facts{}, err
	}
	f := roster.Facts{URL: n.URL(), Certificate: c.Leaf.NotAfter.UTC()}
	web := n.web.Status()
	if f.Warning = web.Warning; web.Organisation {
		f.Organisation = web.Until.UTC()
	}
	return f, nil
}

func (n *Node) serveFacts(w http.ResponseWriter, r *http.Request) {
	f, err := n.ownFacts()
	if err != nil {
		http.Error(w, "the certificate cannot be renewed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(f) // the caller may have gone
}
