package wire

import "time"

// Node is one of the cluster's nodes, as the node that was asked sees it.
type Node struct {
	Name          string    `json:"name"`
	URL           string    `json:"url" doc:"Where people reach it"`
	Peer          string    `json:"peer" doc:"Where the other nodes reach it"`
	Role          string    `json:"role" enum:"leader,voter,learner,joining" doc:"A learner follows and does not vote yet; a joining node has not started yet"`
	Healthy       bool      `json:"healthy" doc:"Heard from lately, not far behind, its clock right"`
	Self          bool      `json:"self" doc:"It is the node that was asked"`
	Note          string    `json:"note,omitempty" doc:"What is not well with it"`
	Applied       uint64    `json:"applied" doc:"The newest version that it has"`
	LastContactMS int64     `json:"last_contact_ms" doc:"Since the leader heard from it"`
	ClockOffsetMS int64     `json:"clock_offset_ms" doc:"Its clock minus the median of all"`
	Version       string    `json:"version" doc:"The program's version"`
	Format        int       `json:"format" doc:"The newest data format that it can write"`
	FreeBytes     int64     `json:"free_bytes" doc:"Of its disk"`
	Certificate   time.Time `json:"certificate,omitzero" doc:"Until when its own certificate is valid; it is renewed by itself"`
	Organisation  time.Time `json:"organisation_certificate,omitzero" doc:"Until when the organisation's certificate is valid; absent = none"`
}

// NewInvitation asks for an invitation.
type NewInvitation struct {
	Minutes int `json:"minutes,omitempty" minimum:"0" maximum:"30" doc:"How long it is good; 30 when 0"`
}

// Invitation lets one new node in, once.
type Invitation struct {
	Token   string    `json:"token" doc:"For: cloister node join. It is a secret, and shown only now"`
	Expires time.Time `json:"expires"`
	Command string    `json:"command" doc:"What to run on the new machine, with its own name and address"`
}

// Transfer hands over the lead.
type Transfer struct {
	To string `json:"to,omitempty" maxLength:"40" doc:"The node that leads then; empty = any that is fit"`
}

// Address is where the other nodes reach a node.
type Address struct {
	Peer string `json:"peer" minLength:"1" maxLength:"300" doc:"HOST:PORT"`
}

// Finalised is what became of raising the cluster's data format.
type Finalised struct {
	From int `json:"from" doc:"The format that the cluster worked at"`
	To   int `json:"to" doc:"The format that it works at now"`
}
