package chaos

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"

	"github.com/cloister-os/cloister/test/chaos/network"
	"github.com/cloister-os/cloister/test/kvnode/wire"
)

// fault is something that happens to a cluster. do makes it happen, lasts as long
// as it likes, and leaves the cluster able to recover by itself.
type fault struct {
	name  string
	disks bool // needs power-cut disks
	do    func(*run)
}

// faults are all that can happen.
func faults() []fault {
	return []fault{
		{"kill", false, (*run).kill},
		{"kill the leader", false, (*run).killLeader},
		{"kill all", false, (*run).killAll},
		{"pause", false, (*run).pause},
		{"pause the leader", false, (*run).pauseLeader},
		{"isolate the leader", false, (*run).isolateLeader},
		{"isolate", false, (*run).isolate},
		{"bridge", false, (*run).bridge},
		{"split", false, (*run).split},
		{"deaf leader", false, (*run).deafLeader},
		{"mute leader", false, (*run).muteLeader},
		{"one way", false, (*run).oneWay},
		{"loss", false, (*run).loss},
		{"delay", false, (*run).delay},
		{"clock", false, (*run).clock},
		{"transfer", false, (*run).transfer},
		{"rolling restart", false, (*run).rolling},
		{"membership", false, (*run).membership},
		{"disk nearly full", true, (*run).reserve},
		{"disk full", true, (*run).diskFull},
		{"slow disk", true, (*run).slowDisk},
		{"power cut", true, (*run).powerCut},
		{"power cut of all", true, (*run).powerCutAll},
		{"yesterday", true, (*run).yesterday},
	}
}

// run is a cluster under faults that a seed chooses.
type run struct {
	*Cluster
	rnd    *rand.Rand
	log    func(format string, args ...any)
	stop   []string // what went wrong with the cluster itself
	writes int
}

func (r *run) wrong(format string, args ...any) {
	r.stop = append(r.stop, fmt.Sprintf(format, args...))
}

// hold is how long a fault lasts.
func (r *run) hold(least, most time.Duration) { time.Sleep(least + rand.N(most-least)) }

func (r *run) any() *node { return r.nodes[r.rnd.IntN(len(r.nodes))] }

// head is the leader, or any node when none is known.
func (r *run) head() *node {
	if l := r.leader(); l != nil {
		return l
	}
	return r.any()
}

const (
	short = 300 * time.Millisecond
	long  = 3 * time.Second
)

func (r *run) killNode(n *node) {
	n.end(syscall.SIGKILL)
	r.hold(0, long)
	r.restart(n)
}

func (r *run) kill()       { r.killNode(r.any()) }
func (r *run) killLeader() { r.killNode(r.head()) }

func (r *run) killAll() {
	for _, n := range r.nodes {
		n.end(syscall.SIGKILL)
	}
	r.hold(0, short)
	for _, i := range r.rnd.Perm(len(r.nodes)) {
		r.restart(r.nodes[i])
		r.hold(0, short)
	}
}

func (r *run) pauseNode(n *node) {
	n.pause(true)
	r.hold(short, long+long)
	n.pause(false)
}

func (r *run) pause()       { r.pauseNode(r.any()) }
func (r *run) pauseLeader() { r.pauseNode(r.head()) }

// cut cuts a node off from the other nodes, not from clients.
func (r *run) cut(n *node) {
	for _, other := range r.others(n) {
		r.net.Both(n.number, other.number, network.Cut)
	}
}

func (r *run) heal() {
	r.hold(short, long+long)
	r.net.Heal()
}

func (r *run) isolateLeader() { r.cut(r.head()); r.heal() }
func (r *run) isolate()       { r.cut(r.any()); r.heal() }

// bridge leaves each of two groups in touch with one node in the middle.
func (r *run) bridge() {
	p := r.rnd.Perm(len(r.nodes))
	half := len(p) / 2
	for _, a := range p[1 : 1+half] {
		for _, b := range p[1+half:] {
			r.net.Both(a, b, network.Cut)
		}
	}
	r.heal()
}

// split leaves nobody a majority for a while, or a minority with the leader.
func (r *run) split() {
	l := r.head()
	for _, a := range r.nodes {
		for _, b := range r.nodes {
			if a != b && (a != l && b != l || r.rnd.IntN(2) == 0) {
				r.net.Both(a.number, b.number, network.Cut)
			}
		}
	}
	r.heal()
}

// deafLeader sends and hears nothing; muteLeader hears and is not heard.
func (r *run) deafLeader() {
	l := r.head()
	for _, other := range r.others(l) {
		r.net.Set(other.number, l.number, network.Cut)
	}
	r.heal()
}

func (r *run) muteLeader() {
	l := r.head()
	for _, other := range r.others(l) {
		r.net.Set(l.number, other.number, network.Cut)
	}
	r.heal()
}

// oneWay cuts some directions of some links.
func (r *run) oneWay() {
	for _, a := range r.nodes {
		for _, b := range r.nodes {
			if a != b && r.rnd.IntN(3) == 0 {
				r.net.Set(a.number, b.number, network.Cut)
			}
		}
	}
	r.heal()
}

// loss loses packets, of each direction its own share.
func (r *run) loss() {
	for _, a := range r.nodes {
		for _, b := range r.nodes {
			if a != b {
				r.net.Set(a.number, b.number, network.Rule{Loss: r.rnd.Float64() * 0.3})
			}
		}
	}
	r.heal()
}

// delay holds packets back, of clients as well.
func (r *run) delay() {
	for a := range len(r.nodes) + 1 {
		for b := range len(r.nodes) + 1 {
			if a != b && r.rnd.IntN(2) == 0 {
				r.net.Set(a, b, network.Rule{Delay: time.Duration(r.rnd.IntN(150)) * time.Millisecond, Jitter: 100 * time.Millisecond})
			}
		}
	}
	r.heal()
}

// clock moves a node's clock by up to an hour, and back.
func (r *run) clock() {
	n := r.any()
	if r.rnd.IntN(2) == 0 {
		n = r.head()
	}
	r.setClock(n, r.offset())
	r.hold(short, 2*long)
	r.setClock(n, 0)
}

func (r *run) transfer() {
	if err := r.admin(wire.Admin{Do: "transfer"}); err != nil {
		r.log("transfer: %v", err) // allowed: none may be fit
	}
	r.hold(short, long)
}

func (r *run) rolling() {
	for _, i := range r.rnd.Perm(len(r.nodes)) {
		n := r.nodes[i]
		n.end(syscall.SIGTERM)
		r.restart(n)
		if err := r.ready(n); err != nil {
			r.wrong("after a restart: %v", err)
		}
	}
}

// ready waits until a node can serve.
func (r *run) ready(n *node) error {
	return wait(r.t.Context(), func() error {
		s, err := r.status(n)
		if err == nil && s.Trouble != "" {
			err = fmt.Errorf("%s: %s", n.id, s.Trouble)
		}
		return err
	})
}

// membership takes a node out for ever and brings a new one in its place, now and
// then on a machine whose clock is wrong.
func (r *run) membership() {
	n := r.any()
	if r.rnd.IntN(2) == 0 {
		r.setClock(n, r.offset())
		defer r.setClock(n, 0)
	}
	r.replace(n)
}

// offset is by how much a clock is wrong.
func (r *run) offset() time.Duration {
	return time.Hour - time.Duration(r.rnd.Int64N(int64(2*time.Hour)))
}

func (r *run) setClock(n *node, offset time.Duration) {
	if err := n.setClock(offset); err != nil {
		r.wrong("%v", err)
	}
	r.log("the clock of %s is off by %v", n.id, offset)
}

// replace removes a node and lets a bare one join under its name.
func (r *run) replace(n *node) {
	n.forgive(true) // a removed node may end, before who removes it hears that it is
	if err := wait(r.t.Context(), func() error {
		err := r.admin(wire.Admin{Do: "remove", ID: n.id})
		if err != nil && strings.Contains(err.Error(), "no node "+n.id) {
			return nil // an earlier try did it
		}
		return err
	}); err != nil {
		r.wrong("%s could not be removed: %v", n.id, err)
		return
	}
	r.hold(0, short)
	n.end(syscall.SIGKILL)
	if err := n.wipe(r.t); err != nil {
		r.wrong("%v", err)
		return
	}
	n.forgive(false)
	r.restart(n)
	r.rejoin(n)
}

func (r *run) rejoin(n *node) {
	err := wait(r.t.Context(), func() error { return r.admin(wire.Admin{Do: "add", ID: n.id, Address: n.address()}) })
	if err != nil {
		r.wrong("%s could not be added: %v", n.id, err)
		return
	}
	r.mustWrite(n)
}

// mustWrite waits until a transaction succeeds through a node.
func (r *run) mustWrite(n *node) {
	r.writes++
	tx := wire.Tx{Puts: []wire.Put{{Key: "S/kv/through/" + n.id, Value: fmt.Sprint(r.writes)}}}
	if err := wait(r.t.Context(), func() error {
		return post(r.t.Context(), r.client, n.url()+wire.TxPath, tx, &wire.Done{})
	}); err != nil {
		r.wrong("nothing can be written through %s: %v", n.id, err)
	}
}
