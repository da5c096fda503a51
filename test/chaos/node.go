package chaos

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store/storetest/powercut"
	"github.com/cloister-os/cloister/test/chaos/network"
)

const (
	httpsPort = "8443"
	peerPort  = "7443"
)

// node is one kvnode: a process on a host of the network, with a disk of its own.
type node struct {
	id     string
	number int // of its host
	host   *network.Host
	dir    string // of the mount, or the data itself
	log    string // file with what it said in all its lives
	clock  string // file with the offset of its clock
	args   []string

	disk  *powercut.Disk // nil = a plain folder
	mount *powercut.Mounted

	mu      sync.Mutex // guards all below
	cmd     *exec.Cmd
	ended   chan struct{} // closed when cmd has ended
	stopped bool          // SIGSTOP
	pardon  bool          // it may end by itself: a fault does that to it
	found   bool          // it founds a cluster when its folder is new
	died    []string      // ends that nobody asked for
}

func (n *node) url() string     { return "https://" + n.host.Addr.String() + ":" + httpsPort }
func (n *node) address() string { return n.host.Addr.String() + ":" + peerPort }

// start starts the process, which must not run.
func (n *node) start(binary, ca string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	out, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	args := []string{"-id", n.id, "-dir", n.dir, "-ca", ca, "-clock", n.clock,
		"-listen", n.host.Addr.String() + ":" + httpsPort, "-peer", n.address(), fmt.Sprintf("-found=%v", n.found)}
	cmd := exec.Command(binary, append(args, n.args...)...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), "GOTRACEBACK=all")
	if err := n.host.Start(cmd); err != nil {
		return err
	}
	fmt.Fprintf(out, "--- started as %d\n", cmd.Process.Pid)
	ended := make(chan struct{})
	n.cmd, n.ended, n.stopped = cmd, ended, false
	go n.wait(cmd, ended)
	return nil
}

// wait notes an end that nobody asked for: whoever ends the process takes n.cmd
// away first.
func (n *node) wait(cmd *exec.Cmd, ended chan struct{}) {
	err := cmd.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == cmd {
		n.cmd = nil
		if !n.pardon {
			n.died = append(n.died, fmt.Sprintf("%s ended by itself (%v): %s", n.id, err, n.tail()))
		}
	}
	close(ended)
}

// tail is the end of what the process said.
func (n *node) tail() string {
	b, _ := os.ReadFile(n.log)
	if i := bytes.Index(b, []byte("\npanic: ")); i >= 0 {
		return string(b[i:min(len(b), i+3000)])
	}
	return string(b[max(0, len(b)-1500):])
}

func (n *node) running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cmd != nil
}

// end sends a signal and waits for the end of the process; one that takes longer
// than a minute to stop is killed, and that is noted.
func (n *node) end(s syscall.Signal) {
	n.mu.Lock()
	cmd, ended := n.cmd, n.ended
	if cmd == nil {
		n.mu.Unlock()
		return
	}
	n.cmd = nil
	if n.stopped && s != syscall.SIGKILL {
		_ = cmd.Process.Signal(syscall.SIGCONT)
	}
	n.stopped = false
	_ = cmd.Process.Signal(s)
	n.mu.Unlock()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		_ = cmd.Process.Signal(syscall.SIGQUIT) // its goroutines go to its log
		time.Sleep(time.Second)
		_ = cmd.Process.Kill()
		<-ended
		n.mu.Lock()
		n.died = append(n.died, fmt.Sprintf("%s did not stop within a minute of %v", n.id, s))
		n.mu.Unlock()
	}
}

// pause stops the process or lets it go on.
func (n *node) pause(stop bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil || n.stopped == stop {
		return
	}
	s := syscall.SIGCONT
	if stop {
		s = syscall.SIGSTOP
	}
	_ = n.cmd.Process.Signal(s)
	n.stopped = stop
}

// forgive lets the process end by itself, or no longer.
func (n *node) forgive(yes bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pardon = yes
}

// deaths are the ends that nobody asked for.
func (n *node) deaths() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.died...)
}

// setClock sets the offset of the node's clock.
func (n *node) setClock(offset time.Duration) error {
	tmp := n.clock + ".new"
	if err := os.WriteFile(tmp, []byte(offset.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, n.clock)
}

// remount ends the use of the disk and begins anew, on the same or another disk.
func (n *node) remount(t testing.TB, disk *powercut.Disk) error {
	if n.mount != nil {
		if err := n.mount.Unmount(); err != nil {
			return err
		}
	}
	n.disk = disk
	n.mount = disk.Mount(t, n.dir)
	return nil
}

// wipe empties the node's disk. The node must not run.
func (n *node) wipe(t testing.TB) error {
	if n.disk != nil {
		return n.remount(t, powercut.New())
	}
	all, err := filepath.Glob(filepath.Join(n.dir, "*"))
	for _, p := range all {
		if e := os.RemoveAll(p); err == nil {
			err = e
		}
	}
	return err
}
