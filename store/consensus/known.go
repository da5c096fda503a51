package consensus

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/raft"
)

// A voter whose disk was set back to an earlier state has forgotten what it
// acknowledged and whom it voted for: with its vote a node could be elected that
// lacks what was committed. It cannot know this itself. So each node keeps, on
// its own disk, what is proven of the others: their newest life, the highest
// committed entry that they hold, their highest term. The leader learns it from
// their answers each second and passes it on. A node that starts says hello to
// the others with what its disk says, and does not vote before enough of them
// have compared it with what they know. One that knows less than they do stops.
//
// What is lost in the same second on two disks is beyond this, as it is beyond
// any quorum of three.

// proof is what is known of one node. Each part only grows while it is a member.
type proof struct {
	// Since is the entry of the log that made it a member. A node that was removed
	// and joined again is another one: a member that is behind the log still tells
	// what it knew of the one before. 0 = of a program that keeps none.
	Since uint64 `cbor:"6,keyasint,omitempty"`
	Birth uint64 `cbor:"4,keyasint"` // the first life of its disk
	Boot  uint64 `cbor:"1,keyasint"` // its newest life
	Index uint64 `cbor:"2,keyasint"` // of the highest committed entry that it holds
	Term  uint64 `cbor:"3,keyasint"` // the highest that it has seen
	// Mark is drawn anew by each process. It tells apart two that took one folder
	// and its copy for the same life; 0 = of a program that draws none.
	Mark uint64 `cbor:"5,keyasint,omitempty"`
}

// outlived reports whether there was a later start than the one of a life and mark:
// of two that are the same life, that with the greater mark counts as the later.
func (p proof) outlived(life, mark uint64) bool {
	return life < p.Boot || life == p.Boot && mark != 0 && mark < p.Mark
}

// isLife reports whether a life and mark are of the process that p is proven of.
func (p proof) isLife(life, mark uint64) bool {
	return life == p.Boot && (mark == p.Mark || mark == 0 || p.Mark == 0)
}

// join takes both proofs together; what is proven of a later member or a newer disk
// replaces what was of an earlier or older one.
func (p proof) join(q proof) proof {
	if by := cmp.Or(cmp.Compare(q.Since, p.Since), cmp.Compare(q.Birth, p.Birth)); by > 0 {
		return q
	} else if by < 0 {
		return p
	}
	mark := p.Mark
	if q.Boot > p.Boot {
		mark = q.Mark
	} else if q.Boot == p.Boot {
		mark = max(p.Mark, q.Mark)
	}
	return proof{Since: p.Since, Birth: p.Birth, Boot: max(p.Boot, q.Boot), Index: max(p.Index, q.Index), Term: max(p.Term, q.Term), Mark: mark}
}

// vouchAfter is how long a starting node waits for the others that do not answer
// once enough of them have.
const vouchAfter = 1500 * time.Millisecond

// known is what this node knows of the others, and who of them vouches for it.
type known struct {
	disk  *logStore
	birth uint64
	// start is what this node's own disk said when it started; its Boot is that of
	// the life before.
	start proof

	mu      sync.Mutex      // guards all below
	members map[string]bool // as of the last change that was gone through
	proofs  map[string]proof
	dirty   bool
	met     map[string]bool // those who heard this life's hello and found nothing
	first   time.Time       // when the first of them did
	vouched bool
}

// knownKey holds it beside the log, in plain: it says nothing that the log's own
// numbers do not.
var knownKey = []byte("cloister/known")

// knownRecord is what is kept.
type knownRecord struct {
	Birth  uint64           `cbor:"1,keyasint"` // this node's own
	Proofs map[string]proof `cbor:"2,keyasint"` // of the others
}

func openKnown(disk *logStore) (*known, error) {
	k := &known{disk: disk, proofs: map[string]proof{}, met: map[string]bool{}}
	b, err := disk.Log.Get(knownKey)
	if err == nil && len(b) > 0 {
		var r knownRecord
		if err = cbor.Unmarshal(b, &r); err == nil {
			k.birth = r.Birth
			maps.Copy(k.proofs, r.Proofs)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read what is known of the other nodes: %w", err)
	}
	return k, nil
}

// born gives a new disk its birth: the number of its first life.
func (k *known) born(boot uint64) error {
	if k.birth != 0 {
		return nil
	}
	k.birth = boot
	return k.write()
}

// write makes everything durable.
func (k *known) write() error {
	k.mu.Lock()
	b, err := cbor.Marshal(knownRecord{k.birth, k.proofs})
	k.dirty = false
	k.mu.Unlock()
	if err != nil {
		return err
	}
	return k.disk.check("write what is known of the other nodes", k.disk.Log.Set(knownKey, b))
}

// note adds what a node's present life proves: an index and a term. Of a node
// whose hello is not known, or forgotten (the log's replay goes through its removal
// once more), nothing is noted: the life that proves it would look set back when it
// says hello again.
func (k *known) note(id string, index, term uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if have := k.proofs[id]; have.Birth != 0 {
		have.Index, have.Term = index, term
		k.add(id, have)
	}
}

// add is note; mu is held.
func (k *known) add(id string, p proof) {
	if next := k.proofs[id].join(p); next != k.proofs[id] {
		k.proofs[id], k.dirty = next, true
	}
}

// merge adds what another node knows.
func (k *known) merge(all map[string]proof) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, p := range all {
		if len(k.proofs) < 4*maxVoters || k.proofs[id] != (proof{}) {
			k.add(id, p)
		}
	}
}

// all is what is known.
func (k *known) all() map[string]proof {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make(map[string]proof, len(k.proofs))
	for id, p := range k.proofs {
		all[id] = p
	}
	return all
}

// follow takes a change of the members that the log holds at an index: who came is
// another node than one of its name that was there before, and who went is forgotten.
// The log's replay goes through a change once more, and takes nothing from what was
// proven after it.
func (k *known) follow(index uint64, members map[string]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id := range members {
		if !k.members[id] && k.proofs[id].Since < index {
			k.proofs[id], k.dirty = proof{Since: index}, true
		}
	}
	k.keep(members, index)
}

// restore takes the members as they were at an index, when the log before it is not
// gone through: from a snapshot, or from nothing.
func (k *known) restore(index uint64, members map[string]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keep(members, index)
}

// member reports whether a node is one, as of the last change that was gone through.
func (k *known) member(id string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.members[id]
}

// keep drops what was proven of others than the members as of an index; mu is held.
func (k *known) keep(members map[string]bool, index uint64) {
	k.members = members
	for id, p := range k.proofs {
		if !members[id] && p.Since <= index {
			delete(k.proofs, id)
			k.dirty = true
		}
	}
}

// save makes durable what is new.
func (k *known) save() error {
	k.mu.Lock()
	dirty := k.dirty
	k.mu.Unlock()
	if !dirty {
		return nil
	}
	return k.write()
}

// judge compares a node's hello with what is known of it and notes its life. The
// sentence is for a node that must stop. Only who leads knows the members for
// certain, so only it judges another disk than the one that is known: to the others
// it may be that of a node that was removed and joined again, and they do not vouch
// for it.
func (k *known) judge(h hello, leads bool) (verdict string, vouch bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.proofs[h.Node]
	other := h.Start.Birth != p.Birth
	switch {
	case p.Birth == 0 || p.isLife(h.Boot, h.Mark):
	case other && !leads:
		return "", false
	case p.outlived(h.Boot, h.Mark):
		return outlivedSentence(h.Node), false
	case other || h.Start.Boot < p.Boot || h.Start.Index < p.Index || h.Start.Term < p.Term:
		return fmt.Sprintf("the disk of node %s is older than what the cluster knows of it (it holds entries to %d in term %d, the cluster has proof of %d in term %d): "+
			"it was set back, copied or emptied, and has forgotten what it acknowledged. Run `cloister node remove %s` on another node, empty this node's data folder, and join it again",
			h.Node, h.Start.Index, h.Start.Term, p.Index, p.Term, h.Node), false
	}
	k.add(h.Node, proof{Since: p.Since, Birth: h.Start.Birth, Boot: h.Boot, Mark: h.Mark})
	return "", true
}

func outlivedSentence(id string) string {
	return fmt.Sprintf("a later start of node %[1]s is known to the cluster: two processes must not use copies of one data folder; stop this one. "+
		"If no other runs, its disk was set back and has forgotten what it acknowledged: run `cloister node remove %[1]s` on another node, empty this node's data folder, and join it again", id)
}

// hear compares what another node knows of this one with its life. A copy of the
// data folder that runs elsewhere may have met that node and never this one.
func (n *Node) hear(own proof) {
	if own.Birth == n.known.birth && own.outlived(n.life, n.mark) {
		n.fail(errors.New(outlivedSentence(n.cfg.NodeID)))
	}
}

// meets notes that a node has heard this life's hello and found nothing.
func (k *known) meets(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.met) == 0 {
		k.first = time.Now()
	}
	k.met[id] = true
}

// vouches reports whether enough of the other voters have vouched for this node.
func (k *known) vouches(others []string, self int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.vouched {
		return true
	}
	met := 0
	for _, v := range others {
		if k.met[v] {
			met++
		}
	}
	quorum := (len(others)+self)/2 + 1
	k.vouched = met == len(others) || met+self >= quorum && time.Since(k.first) > vouchAfter
	return k.vouched
}

// errNotVouched is why a node does not vote yet.
var errNotVouched = errors.New("this node has just started and does not vote before the others have compared its disk with what they know of it")

// mayVote is nil when this node may vote and stand for election.
func (n *Node) mayVote() error {
	if others, self := n.voters(); !n.known.vouches(others, self) {
		return errNotVouched
	}
	return nil
}

// unvouched reports whether this node is a voter whose vote does not count yet.
func (n *Node) unvouched() bool {
	others, self := n.voters()
	return self == 1 && !n.known.vouches(others, self)
}

// remember makes what is known durable, once a second.
func (n *Node) remember() {
	if err := n.known.save(); err != nil {
		n.fail(err)
	}
}

// recall tells what is known which members the replay of the log begins with.
func (n *Node) recall() error {
	snaps, err := n.snapshots.List()
	if err != nil {
		return fmt.Errorf("list the snapshots: %w", err)
	}
	var last raft.SnapshotMeta
	if len(snaps) > 0 {
		last = *snaps[0]
	}
	n.known.restore(last.ConfigurationIndex, memberSet(last.Configuration))
	return nil
}

// memberSet is the names of all members.
func memberSet(c raft.Configuration) map[string]bool {
	members := make(map[string]bool, len(c.Servers))
	for _, s := range c.Servers {
		members[string(s.ID)] = true
	}
	return members
}
