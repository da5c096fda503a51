package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// entered is in the environment of a process that Enter started.
const entered = "CLOISTER_NETWORK_ENTERED"

// Enter runs this program again in namespaces of its own for network and mounts
// and ends with its exit code; there it returns at once. Call it first in
// TestMain: what the tests mount and what interfaces they make then ends with
// them.
func Enter() {
	if os.Getenv(entered) != "" || Reason() != "" {
		return
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), entered+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
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

// newHost makes a host in a new namespace.
func newHost(addr netip.Addr) (*Host, error) {
	h := &Host{Addr: addr}
	made := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		made <- func() (err error) {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			if h.ns, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())); err != nil {
				return err
			}
			return h.open()
		}()
	}()
	if err := <-made; err != nil {
		return nil, fmt.Errorf("make the host %s: %w", addr, err)
	}
	return h, nil
}

// open makes the host's interface, in the namespace of the calling thread.
func (h *Host) open() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	device := fmt.Sprint("chaos", h.Addr.As4()[2])
	ifr, err := unix.NewIfreq(device)
	if err == nil {
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err == nil {
		err = configure(device, h.Addr)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("make the interface %s: %w", device, err), unix.Close(fd))
	}
	h.tun = os.NewFile(uintptr(fd), "tun "+h.Addr.String())
	return nil
}

// configure gives the interface its address and raises it and loopback.
func configure(device string, addr netip.Addr) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	ip := addr.As4()
	for _, step := range []struct {
		device string
		code   uint
		set    func(*unix.Ifreq) error
	}{
		{device, unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(ip[:]) }},
		{device, unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 0}) }},
		{device, unix.SIOCSIFMTU, func(r *unix.Ifreq) error { r.SetUint32(mtu); return nil }},
		{device, unix.SIOCSIFFLAGS, up},
		{"lo", unix.SIOCSIFFLAGS, up},
	} {
		ifr, err := unix.NewIfreq(step.device)
		if err != nil {
			return err
		}
		if err := step.set(ifr); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(s, step.code, ifr); err != nil {
			return fmt.Errorf("configure %s: %w", step.device, err)
		}
	}
	return nil
}

func up(r *unix.Ifreq) error {
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return nil
}
