package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"time"

	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/node/cluster"
	"github.com/cloister-os/cloister/node/cluster/roster"
)

// Invited is a new node on its way into a cluster.
type Invited struct {
	Token   string
	Data    string // a folder that is empty or not there yet
	Node    string // the name that it wants
	Peer    string // where the other nodes will reach it
	Version string // of the program
}

// Joined is what became of it.
type Joined struct {
	Cluster string            `json:"cluster"`
	Node    string            `json:"node"`
	Data    string            `json:"data"`
	Members map[string]string `json:"members"` // the others' peer addresses
}

// Join prepares a bare data folder for a node of the cluster that the token is
// of. Everything that can be refused here is refused before the token is used.
func Join(ctx context.Context, in Invited) (Joined, error) {
	t, err := cluster.ParseToken(in.Token)
	if err != nil {
		return Joined{}, err
	}
	if expires := time.Unix(t.Expires, 0); time.Since(expires) > 0 {
		return Joined{}, fmt.Errorf("this invitation ran out at %s (and here it is %s): make a new one with: cloister node invite",
			expires.Local().Format(time.TimeOnly), time.Now().Format(time.TimeOnly))
	}
	if err := roster.CheckAddress(in.Peer); err != nil {
		return Joined{}, err
	}
	if err := free(in.Peer); err != nil {
		return Joined{}, err
	}
	d, err := openBare(in.Data)
	if err != nil {
		return Joined{}, err
	}
	defer d.Close()
	reply, err := cluster.Join(ctx, t, cluster.JoinRequest{Node: in.Node, Address: in.Peer, Program: in.Version})
	if err != nil {
		return Joined{}, err
	}
	place := cluster.Place{Cluster: reply.Cluster, Node: in.Node, Joined: reply.Joined, Address: in.Peer, Service: reply.Service, Members: reply.Members}
	if err := errors.Join(seal.Receive(d.seal(), reply.Seal), place.Write(in.Data)); err != nil {
		return Joined{}, fmt.Errorf("the cluster took the node in, but its folder could not be prepared (%w): run cloister node remove %s, empty the folder, and start again with a new invitation", err, in.Node)
	}
	return Joined{Cluster: reply.Cluster, Node: in.Node, Data: in.Data, Members: reply.Members}, nil
}

// free reports why an address cannot be listened on.
func free(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("the peer address %s cannot be used on this machine: %w", address, err)
	}
	return l.Close()
}

// openBare takes a data folder in which nothing is yet.
func openBare(dir string) (*disk, error) {
	if p, err := cluster.ReadPlace(dir); err == nil {
		return nil, fmt.Errorf("the data folder %s belongs to node %s of a cluster already: choose an empty or a new one with --data", dir, p.Node)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	d, err := openDisk(dir)
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{d.seal(), d.raft()} {
		if there, err := filled(sub); err != nil || there {
			if err == nil {
				err = fmt.Errorf("the data folder %s holds a node's data already (%s): choose an empty or a new one with --data", dir, filepath.Base(sub))
			}
			return nil, errors.Join(err, d.Close())
		}
	}
	return d, nil
}
