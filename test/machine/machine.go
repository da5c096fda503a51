// Package machine boots the machines that a package is installed on: containers
// with a real systemd as their first process, a disk and an address of their own,
// on one network whose way out leads to a recording sink.
//
// It promises: what runs on a machine reaches the other machines and the tests,
// and whatever else it tries to reach is recorded (Frames); Cut ends everything on
// a machine at once, as a lost supply does, and Boot starts it again from the same
// disk; nothing is left behind when the process ends, however it ends. It needs
// root, systemd-nspawn, mmdebstrap and iproute2, and, once, the machine's own
// package mirror. It imports nothing of Cloister but test/sink.
package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// bootLimit bounds how long a machine takes to be up.
const bootLimit = 90 * time.Second

// Machine is one container.
type Machine struct {
	Name string
	Addr string // its IPv4 address
	Root string // its disk, to put files there while it is off or to read them
	lan  *LAN
	bind []string // folders of the host that it sees, read only: "HOST:INSIDE"

	mu      sync.Mutex
	nspawn  *exec.Cmd // nil = off
	ended   chan struct{}
	console *os.File
}

// New makes a machine on the network. Each of bind, "HOST:INSIDE", is a folder
// that it sees and cannot change. It is off.
func (l *LAN) New(t testing.TB, name string, bind ...string) *Machine {
	t.Helper()
	root := rootfs(t)
	dir := t.TempDir()
	m := &Machine{Name: name, Addr: l.address(), Root: filepath.Join(dir, "root"), lan: l, bind: bind}
	for _, d := range []string{"root", "changes", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s/changes,workdir=%s/work", root, dir, dir)
	if err := syscall.Mount("overlay", m.Root, "overlay", 0, layers); err != nil {
		t.Fatalf("the disk of %s: %v", name, err)
	}
	t.Cleanup(func() {
		m.Cut()
		if err := syscall.Unmount(m.Root, syscall.MNT_DETACH); err != nil {
			t.Errorf("the disk of %s: %v", name, err)
		}
	})
	if err := m.furnish(); err != nil {
		t.Fatal(err)
	}
	return m
}

// furnish gives the machine its name, its address and a resolver.
func (m *Machine) furnish() error {
	unit := fmt.Sprintf(`[Unit]
Description=Address of the machine
DefaultDependencies=no
Before=network.target network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'echo 1 >/proc/sys/net/ipv6/conf/host0/disable_ipv6 || true'
ExecStart=/usr/sbin/ip addr add %s/24 dev host0
ExecStart=/usr/sbin/ip link set host0 up
ExecStart=/usr/sbin/ip route add default via %s
`, m.Addr, gateway)
	return errors.Join(
		m.Write("/etc/hostname", m.Name+"\n"),
		m.Write("/etc/hosts", "127.0.0.1 localhost\n"+m.Addr+" "+m.Name+"\n"),
		m.Write("/etc/resolv.conf", "nameserver "+resolver+"\noptions timeout:1 attempts:1\n"),
		m.Write("/etc/systemd/system/address.service", unit),
		os.MkdirAll(filepath.Join(m.Root, "/etc/systemd/system/sysinit.target.wants"), 0o755),
		os.Symlink("../address.service", filepath.Join(m.Root, "/etc/systemd/system/sysinit.target.wants/address.service")),
	)
}

// Write puts a file on the machine's disk, whether it is on or off.
func (m *Machine) Write(path, text string) error {
	path = filepath.Join(m.Root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// Boot starts the machine and returns when its system is up.
func (m *Machine) Boot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	if err := m.start(); err != nil {
		return fmt.Errorf("start the machine %s: %w", m.Name, err)
	}
	for {
		out, err := m.Run(ctx, "systemctl", "is-system-running")
		switch strings.TrimSpace(out) {
		case "running", "degraded":
			return nil
		}
		select {
		case <-m.ended:
			return fmt.Errorf("the machine %s ended while it started:\n%s", m.Name, m.Console())
		case <-ctx.Done():
			return fmt.Errorf("the machine %s is not up after %v: %q %v\n%s", m.Name, bootLimit, out, err, m.Console())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (m *Machine) start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nspawn != nil {
		return errors.New("it is on already")
	}
	var err error
	if m.console, err = os.OpenFile(m.Root+".console", os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600); err != nil {
		return err
	}
	args := []string{"--quiet", "--directory=" + m.Root, "--machine=" + m.Name, "--register=no", "--keep-unit", "--console=pipe",
		"--resolv-conf=off", "--timezone=off", "--network-bridge=" + bridge, "--boot"}
	for _, b := range m.bind {
		args = append(args, "--bind-ro="+b)
	}
	// Not a command of a context: the machine outlives the call that boots it. ip
	// netns exec would hide the control groups.
	cmd := exec.Command("nsenter", append([]string{"--net=/run/netns/" + m.lan.sink.Inside(), "systemd-nspawn"}, args...)...)
	cmd.Stdout, cmd.Stderr = m.console, m.console
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	m.nspawn, m.ended = cmd, ended
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	return nil
}

// leader is the process id of the machine's first process, 0 when it has none.
func (m *Machine) leader() int {
	m.mu.Lock()
	cmd := m.nspawn
	m.mu.Unlock()
	if cmd == nil {
		return 0
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for _, f := range strings.Fields(string(b)) {
		// nspawn has helpers of its own for a moment; the leader's name is systemd's.
		pid, err := strconv.Atoi(f)
		if name, _ := os.ReadFile("/proc/" + f + "/comm"); err == nil && strings.TrimSpace(string(name)) == "systemd" {
			return pid
		}
	}
	return 0
}

// errOff is what Run says while a machine has no system to run a command in.
var errOff = errors.New("the machine is off")

// Run runs a command on the machine as root and returns what it prints.
func (m *Machine) Run(ctx context.Context, args ...string) (string, error) {
	return m.RunWith(ctx, "", args...)
}

// RunWith runs a command with something to read. Its output is both streams'.
func (m *Machine) RunWith(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd, err := m.Command(ctx, args...)
	if err != nil {
		return "", err
	}
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s on %s: %w: %s", strings.Join(args, " "), m.Name, err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// Output runs a command like RunWith and returns what it prints for programs; the
// rest is in the error.
func (m *Machine) Output(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd, err := m.Command(ctx, args...)
	if err != nil {
		return "", err
	}
	var errs bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(stdin), &errs
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s on %s: %w: %s", strings.Join(args, " "), m.Name, err, bytes.TrimSpace(errs.Bytes()))
	}
	return string(out), nil
}

// Command prepares a command that runs on the machine as root.
func (m *Machine) Command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	pid := m.leader()
	if pid == 0 {
		return nil, fmt.Errorf("run %s on %s: %w", args[0], m.Name, errOff)
	}
	at := fmt.Sprintf("--target=%d", pid)
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{at, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--"}, args...)...)
	cmd.Env = []string{"HOME=/root", "USER=root", "LOGNAME=root", "LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.WaitDelay = 5 * time.Second
	return cmd, nil
}

// Cut ends all that runs on the machine at once, as a lost supply does. It
// returns when nothing of it runs any more; a machine that is off stays so.
func (m *Machine) Cut() {
	if pid := m.leader(); pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL) // the kernel ends the rest of its namespace with it
	}
	m.off(20 * time.Second)
}

// PowerOff shuts the machine down in order.
func (m *Machine) PowerOff(ctx context.Context) error {
	if _, err := m.Run(ctx, "systemctl", "poweroff"); err != nil && !errors.Is(err, errOff) && m.leader() != 0 {
		return err
	}
	m.off(bootLimit)
	return nil
}

// off waits for the container's end, and brings it about after the limit.
func (m *Machine) off(limit time.Duration) {
	m.mu.Lock()
	cmd, ended := m.nspawn, m.ended
	m.nspawn = nil
	m.mu.Unlock()
	if cmd == nil {
		return
	}
	select {
	case <-ended:
	case <-time.After(limit):
		_ = cmd.Process.Kill()
		<-ended
	}
	m.console.Close()
}

// Console is the end of what the machine wrote to its console.
func (m *Machine) Console() string {
	b, _ := os.ReadFile(m.Root + ".console")
	return string(b[max(0, len(b)-4000):])
}

// Journal is the end of a unit's log.
func (m *Machine) Journal(unit string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, _ := m.Run(ctx, "journalctl", "--no-pager", "--lines=60", "--output=cat", "--unit="+unit)
	return out
}

// Seen is the folder of the host that the machine sees at a path, "" where it was
// given none.
func (m *Machine) Seen(path string) string {
	for _, b := range m.bind {
		if host, inside, _ := strings.Cut(b, ":"); inside == path {
			return host
		}
	}
	return ""
}
