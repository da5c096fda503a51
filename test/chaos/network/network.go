// Package network is a network that misbehaves on command: hosts with their own
// network namespaces, joined by a switch in this process that carries each IP
// packet, or loses it, or holds it back, by the rule of its directed link.
//
// It promises that what runs on a host has a kernel's TCP of its own and reaches
// the others through the switch alone; that a rule holds for every packet after
// the call that set it; that nothing is left behind when the process ends,
// however it ends. It needs root and /dev/net/tun, but neither ip nor tc nor a
// kernel with netem. It imports nothing of Cloister.
package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	mtu = 1500
	// backlog is how many packets a link holds back; more are lost, as in a
	// network whose buffers are full.
	backlog = 2048
)

// Reason says why no network can be made here, "" when one can.
func Reason() string {
	if os.Geteuid() != 0 {
		return "making network namespaces needs root"
	}
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return "carrying packets needs /dev/net/tun: " + err.Error()
	}
	f.Close()
	return ""
}

// Rule is what happens to packets that go one way over a link. The zero Rule
// carries them.
type Rule struct {
	Loss   float64       // probability that a packet is lost; 1 = cut
	Delay  time.Duration // each is held back so long,
	Jitter time.Duration // and up to so much longer, without overtaking
}

// Cut loses every packet.
var Cut = Rule{Loss: 1}

// Network is a switch with hosts.
type Network struct {
	number int // the third byte of its addresses
	hosts  []*Host
	links  [][]*link // from, to
	lost   atomic.Int64
}

// Host is a network namespace with one interface.
type Host struct {
	Addr netip.Addr
	ns   *os.File // nil = the process's own
	tun  *os.File
}

// link is one direction between two hosts.
type link struct {
	rule  atomic.Pointer[Rule]
	queue chan held
	to    *Host
}

type held struct {
	packet []byte
	due    time.Time
}

// maxNetworks is how many there may be at a time.
const maxNetworks = 64

// New makes a network of n hosts with the addresses 10.99.x.1 and on, and one
// more, the last, in the process's own namespace, which it must not share with
// anybody (see Enter). x is a number that no other network has.
func New(n int) (*Network, error) {
	w, outside, err := claim(n)
	if err != nil {
		return nil, err
	}
	for i := range n {
		h, err := newHost(w.addr(i))
		if err != nil {
			w.hosts = append(w.hosts, outside)
			return nil, errors.Join(err, w.Close())
		}
		w.hosts = append(w.hosts, h)
	}
	w.hosts = append(w.hosts, outside)
	for range w.hosts {
		row := make([]*link, len(w.hosts))
		for to := range row {
			row[to] = &link{queue: make(chan held, backlog), to: w.hosts[to]}
			row[to].rule.Store(&Rule{})
			go row[to].carry()
		}
		w.links = append(w.links, row)
	}
	for from := range w.hosts {
		go w.forward(from)
	}
	return w, nil
}

// claim makes the host in the process's own namespace. The kernel refuses a second
// interface of one name, which is what tells networks apart.
func claim(n int) (*Network, *Host, error) {
	var err error
	for number := range maxNetworks {
		w := &Network{number: number}
		h := &Host{Addr: w.addr(n)}
		if err = h.open(); err == nil {
			return w, h, nil
		}
		if !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	return nil, nil, err
}

func (w *Network) addr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 99, byte(w.number), byte(i + 1)})
}

// Host returns a host by number, from 0.
func (w *Network) Host(i int) *Host { return w.hosts[i] }

// Outside is the number of the host that this process is itself.
func (w *Network) Outside() int { return len(w.hosts) - 1 }

// Set gives packets from one host to another a rule.
func (w *Network) Set(from, to int, r Rule) { w.links[from][to].rule.Store(&r) }

// Both sets the rule of both directions.
func (w *Network) Both(a, b int, r Rule) {
	w.Set(a, b, r)
	w.Set(b, a, r)
}

// Heal makes every link carry everything.
func (w *Network) Heal() {
	for _, row := range w.links {
		for _, l := range row {
			l.rule.Store(&Rule{})
		}
	}
}

// Lost is how many packets were lost so far.
func (w *Network) Lost() int64 { return w.lost.Load() }

// Close ends the switch.
func (w *Network) Close() error {
	var errs []error
	for _, h := range w.hosts {
		errs = append(errs, h.tun.Close())
		if h.ns != nil {
			errs = append(errs, h.ns.Close())
		}
	}
	for _, row := range w.links {
		for _, l := range row {
			l.queue <- held{}
		}
	}
	return errors.Join(errs...)
}

// forward reads a host's packets until its interface is closed.
func (w *Network) forward(from int) {
	for {
		packet := make([]byte, mtu+100)
		n, err := w.hosts[from].tun.Read(packet)
		if err != nil {
			return
		}
		packet = packet[:n]
		to := w.destination(packet)
		if to < 0 || to >= len(w.hosts) {
			continue
		}
		l := w.links[from][to]
		r := l.rule.Load()
		if r.Loss > 0 && rand.Float64() < r.Loss {
			w.lost.Add(1)
			continue
		}
		h := held{packet: packet, due: time.Now().Add(r.Delay)}
		if r.Jitter > 0 {
			h.due = h.due.Add(rand.N(r.Jitter))
		}
		select {
		case l.queue <- h:
		default:
			w.lost.Add(1)
		}
	}
}

// destination is the number of the host that an IPv4 packet goes to.
func (w *Network) destination(packet []byte) int {
	if len(packet) < 20 || packet[0]>>4 != 4 || binary.BigEndian.Uint16(packet[16:]) != 10<<8|99 || int(packet[18]) != w.number {
		return -1
	}
	return int(packet[19]) - 1
}

// carry hands a link's packets over when they are due.
func (l *link) carry() {
	for h := range l.queue {
		if h.packet == nil {
			return
		}
		if wait := time.Until(h.due); wait > 0 {
			time.Sleep(wait)
		}
		if l.rule.Load().Loss == 1 {
			continue // it was under way when the link was cut
		}
		_, _ = l.to.tun.Write(h.packet) // what an interface does not take is lost
	}
}

// Start starts a command on the host.
func (h *Host) Start(cmd *exec.Cmd) error {
	if h.ns == nil {
		return cmd.Start()
	}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			started <- fmt.Errorf("enter the host %s: %w", h.Addr, err)
			return
		}
		started <- cmd.Start()
	}()
	return <-started
}
