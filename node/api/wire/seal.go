package wire

import "time"

// Seal is how a node's keys are kept.
type Seal struct {
	Kind     string    `json:"kind,omitempty" enum:"file,shares" doc:"file: the node starts by itself; shares: people must come"`
	Need     int       `json:"need,omitempty" doc:"Shares that open the seal"`
	Holders  []string  `json:"holders,omitempty" doc:"Who holds a share"`
	Rotation *Rotation `json:"rotation,omitempty"`
	Locked   *Locked   `json:"locked,omitempty" doc:"Only while the node waits for shares"`
}

// Locked is a seal that waits for its holders.
type Locked struct {
	Need    int           `json:"need"`
	Missing int           `json:"missing" doc:"Shares that still have to come"`
	Holders []ShareHolder `json:"holders"`
}

// ShareHolder is somebody who holds a share.
type ShareHolder struct {
	Name  string `json:"name"`
	Given bool   `json:"given"`
}

// DataKey is one of a node's data keys; the key itself is never shown.
type DataKey struct {
	ID      uint32    `json:"id"`
	Created time.Time `json:"created"`
}

// Rotation says how far the change of a node's data key is.
type Rotation struct {
	Active   DataKey   `json:"active"`
	Old      []DataKey `json:"old,omitempty" doc:"Keys that something may still need"`
	Rotating bool      `json:"rotating"`
	Step     string    `json:"step,omitempty" doc:"What is being sealed anew now"`
	Waiting  []string  `json:"waiting,omitempty" doc:"What still needed an old key when last looked at"`
	Problem  string    `json:"problem,omitempty" doc:"Why it does not go on; it is tried again"`
}

// Split asks for the root key to be split.
type Split struct {
	Holders []string `json:"holders" minItems:"2" maxItems:"20" doc:"Who gets a share"`
	Need    int      `json:"need" minimum:"2" maximum:"20" doc:"How many of them must come"`
}

// Share is a holder's share. It is in this answer and nowhere else.
type Share struct {
	Holder string `json:"holder"`
	Share  string `json:"share"`
}

// Confirm proves that shares were written down.
type Confirm struct {
	Shares []string `json:"shares" minItems:"2" maxItems:"20"`
}

// Unseal brings a share.
type Unseal struct {
	Share string `json:"share"`
}
