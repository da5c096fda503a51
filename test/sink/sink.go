// Package sink is a place that no packet may reach: a network namespace whose
// default route and resolver lead to a second namespace that records every frame
// that arrives there, ARP included.
//
// It promises that what runs inside through Command has loopback and a way out
// that looks real, and that Frames sees each attempt to use it. It needs root and
// iproute2. It imports nothing of Cloister.
package sink

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Sink is a pair of namespaces: inside, where the tested things run, and outside,
// which records.
type Sink struct {
	inside, outside string
	fd              int
	stop, stopped   chan struct{} // closed to end the recorder, and by it
	mu              sync.Mutex
	frames          []string
}

// Reason says why no sink can be made on this machine, "" when one can.
func Reason() string {
	if os.Getuid() != 0 {
		return "making network namespaces needs root"
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return "making network namespaces needs iproute2's ip command"
	}
	probe := fmt.Sprint("cl-probe-", os.Getpid()) // others ask at the same time
	if out, err := exec.Command("ip", "netns", "add", probe).CombinedOutput(); err != nil {
		return "this machine makes no network namespaces: " + strings.TrimSpace(string(out))
	}
	_ = exec.Command("ip", "netns", "delete", probe).Run()
	return ""
}

// New makes the namespaces and starts recording; both are removed when the test
// ends. IPv6 is off inside, or the kernel's own router solicitations would count.
func New(t testing.TB) *Sink {
	t.Helper()
	id := fmt.Sprintf("cl%d", os.Getpid())
	s := &Sink{inside: id + "-in", outside: id + "-out"}
	t.Cleanup(s.remove)
	for _, line := range []string{
		"netns add " + s.inside,
		"netns add " + s.outside,
		"-n " + s.inside + " link set lo up",
		"link add " + id + "i netns " + s.inside + " type veth peer name " + id + "o netns " + s.outside,
	} {
		run(t, line)
	}
	for _, ns := range []string{s.inside, s.outside} {
		if out, err := exec.Command("ip", "netns", "exec", ns, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6; echo 0 >/proc/sys/net/ipv6/conf/lo/disable_ipv6").CombinedOutput(); err != nil {
			t.Logf("IPv6 stays on in %s: %v %s", ns, err, out)
		}
	}
	s.listen(t, id+"o")
	for _, line := range []string{
		"-n " + s.inside + " addr add 198.51.100.2/24 dev " + id + "i",
		"-n " + s.outside + " addr add 198.51.100.1/24 dev " + id + "o",
		"-n " + s.inside + " link set " + id + "i up",
		"-n " + s.outside + " link set " + id + "o up",
		"-n " + s.inside + " route add default via 198.51.100.1",
	} {
		run(t, line)
	}
	dir := filepath.Join("/etc/netns", s.inside)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver 198.51.100.1\noptions timeout:1 attempts:1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

func run(t testing.TB, line string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", line, err, out)
	}
}

// remove ends the recorder before it closes the socket: a recorder that lived on
// would read from the number that the next sink's socket gets, and take its frames.
func (s *Sink) remove() {
	if s.stopped != nil {
		close(s.stop)
		<-s.stopped
	}
	if s.fd > 0 {
		_ = unix.Close(s.fd)
	}
	_ = exec.Command("ip", "netns", "delete", s.inside).Run()
	_ = exec.Command("ip", "netns", "delete", s.outside).Run()
	_ = os.RemoveAll(filepath.Join("/etc/netns", s.inside))
}

// Inside is the name of the inner namespace, for those who put more into it.
func (s *Sink) Inside() string { return s.inside }

// Command prepares a command that runs inside.
func (s *Sink) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", s.inside, name}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

// listen opens a packet socket in the outside namespace and records from it.
func (s *Sink) listen(t testing.TB, device string) {
	t.Helper()
	opened := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends in the other namespace with its goroutine
		opened <- s.open(device)
	}()
	if err := <-opened; err != nil {
		t.Fatalf("record in %s: %v", s.outside, err)
	}
	s.stop, s.stopped = make(chan struct{}), make(chan struct{})
	go s.record()
}

func (s *Sink) open(device string) error {
	ns, err := os.Open("/run/netns/" + s.outside)
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	all := int(binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		return err
	}
	s.fd = fd
	tv := unix.Timeval{Usec: 100_000}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return err
	}
	var index int
	for range 100 {
		if b, err := os.ReadFile("/proc/thread-self/net/dev"); err == nil && strings.Contains(string(b), device) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: index})
}

func (s *Sink) record() {
	defer close(s.stopped)
	buf := make([]byte, 2048)
	for {
		select {
		case <-s.stop:
			return
		default:
		}
		n, from, err := unix.Recvfrom(s.fd, buf, 0)
		if err == unix.EAGAIN || err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue // ARP replies of the outside namespace itself
		}
		s.mu.Lock()
		if len(s.frames) < 1000 {
			s.frames = append(s.frames, describe(buf[:n]))
		}
		s.mu.Unlock()
	}
}

func describe(frame []byte) string {
	if len(frame) < 34 {
		return fmt.Sprintf("%d bytes", len(frame))
	}
	switch kind := binary.BigEndian.Uint16(frame[12:]); kind {
	case unix.ETH_P_ARP:
		return fmt.Sprintf("ARP for %d.%d.%d.%d", frame[38], frame[39], frame[40], frame[41])
	case unix.ETH_P_IP:
		port := 0
		if len(frame) >= 38 {
			port = int(binary.BigEndian.Uint16(frame[36:]))
		}
		return fmt.Sprintf("IP protocol %d to %d.%d.%d.%d port %d", frame[23], frame[30], frame[31], frame[32], frame[33], port)
	default:
		return fmt.Sprintf("ethertype %#04x, %d bytes", kind, len(frame))
	}
}

// Frames returns what has arrived so far, in words.
func (s *Sink) Frames() []string {
	time.Sleep(300 * time.Millisecond) // what was sent is on its way for less than this
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.frames...)
}
