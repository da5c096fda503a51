package view

import "time"

// Nodes is the machines that run this installation together.
type Nodes struct {
	List   []Node
	Manage bool // this person may invite, remove and hand over
	Shut   bool // this node's peer port is closed, so none can join
	Web    Certificate
}

// Alone reports whether there is nothing that would go on without this node.
func (n Nodes) Alone() bool { return len(n.List) < 2 }

// Node is one of them.
type Node struct {
	Name, URL, Peer string
	Role            string // "leads", "votes", "learns", "joins"
	Self, CanLead   bool
	Tone            Tone
	State           string // "well", "not well"
	Note            string // what is not well, a sentence
	Applied         uint64
	Certificate     time.Time // until when its own certificate is valid
	Free            int64
	Version         string
}

// Certificate is what browsers see.
type Certificate struct {
	Tone    Tone
	State   string // "internal", "of the organisation", "run out"
	Names   []string
	Issuer  string
	Until   time.Time
	Warning string
}

// Invitation lets one new node in.
type Invitation struct {
	Command string
	Until   time.Time
}
