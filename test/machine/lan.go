package machine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/cloister-os/cloister/test/sink"
)

// The network of the machines. The gateway is the sink's inner namespace, which
// forwards whatever is not for the network itself to the sink; the test is a
// laptop on the same network.
const (
	bridge   = "lan0"
	subnet   = "203.0.113."
	gateway  = subnet + "1"
	laptop   = subnet + "2"
	first    = 11
	resolver = "198.51.100.1" // the sink's outer side
)

// Laptop is the address of the test itself on the network.
const Laptop = laptop

// What Enter puts into the environment of the process that it starts.
const (
	entered = "CLOISTER_MACHINE_ENTERED"
	lacking = "CLOISTER_MACHINE_LACKS" // why no machine can be booted, if so
)

// needed are the programs that a machine is made with.
func needed() []string { return []string{"ip", "systemd-nspawn", "mmdebstrap", "nsenter", "tar"} }

// Reason says why no machine can be booted here, "" when one can.
func Reason() string {
	if why := os.Getenv(lacking); why != "" {
		return why
	}
	if why := sink.Reason(); why != "" {
		return why
	}
	for _, p := range needed() {
		if _, err := exec.LookPath(p); err != nil {
			return "booting machines needs " + p
		}
	}
	probe := exec.Command("unshare", "--mount", "--pid", "--net", "--fork", "mount", "-t", "proc", "proc", "/proc")
	if out, err := probe.CombinedOutput(); err != nil {
		return "this machine makes no namespaces: " + strings.TrimSpace(string(out))
	}
	return ""
}

// Enter runs this program again in namespaces of its own for processes, mounts
// and network, and ends with its exit code; there it returns at once. Call it
// first in TestMain: what the tests mount and boot then ends with them. The disk of
// a machine is made before, where the package mirror can be reached.
func Enter() {
	if os.Getenv(entered) != "" {
		if err := private(); err != nil {
			fmt.Fprintln(os.Stderr, "enter namespaces:", err)
			os.Exit(1)
		}
		return
	}
	if why := Reason(); why != "" {
		os.Setenv(lacking, why) // what was so at first stays so for the tests
		return
	}
	why := ""
	if _, err := makeOnce(); err != nil {
		why = "no disk for a machine could be made: " + err.Error()
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), entered+"=1", lacking+"="+why)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the death of this thread would be taken for that of the process
	if err := cmd.Run(); err != nil {
		if cmd.ProcessState == nil {
			fmt.Fprintln(os.Stderr, "enter namespaces:", err)
			os.Exit(1)
		}
		os.Exit(max(1, cmd.ProcessState.ExitCode()))
	}
	os.Exit(0)
}

// private keeps the mounts of this process to itself, and gives it the folders
// that speak of its own namespaces alone.
func private() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	for _, dir := range []string{"/run/netns", "/etc/netns"} {
		if err := errors.Join(os.MkdirAll(dir, 0o755), syscall.Mount("tmpfs", dir, "tmpfs", 0, "")); err != nil {
			return err
		}
	}
	return nil
}

// LAN is a network with machines on it.
type LAN struct {
	sink *sink.Sink
	next int // the last byte of the next machine's address
}

// NewLAN makes a network without machines.
func NewLAN(t testing.TB) *LAN {
	t.Helper()
	if os.Getenv(entered) == "" {
		t.Fatal("TestMain has not called Enter")
	}
	l := &LAN{sink: sink.New(t), next: first}
	script := fmt.Sprintf("ip link add %[1]s type bridge && ip addr add %[2]s/24 dev %[1]s && ip link set %[1]s up && echo 1 >/proc/sys/net/ipv4/ip_forward", bridge, gateway)
	if out, err := l.sink.Command(t.Context(), "sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("make the network: %v: %s", err, out)
	}
	l.plug(t)
	return l
}

// plug puts the test's own namespace on the network.
func (l *LAN) plug(t testing.TB) {
	t.Helper()
	for _, line := range []string{
		"link set lo up",
		"link add laptop0 type veth peer name laptop0 netns " + l.sink.Inside(),
		"-n " + l.sink.Inside() + " link set laptop0 master " + bridge + " up",
		"addr add " + laptop + "/24 dev laptop0",
		"link set laptop0 up",
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
	t.Cleanup(func() { _ = exec.Command("ip", "link", "delete", "laptop0").Run() })
}

func (l *LAN) address() string {
	l.next++
	return fmt.Sprint(subnet, l.next-1)
}

// Frames returns what tried to leave the network, in words.
func (l *LAN) Frames() []string { return l.sink.Frames() }
