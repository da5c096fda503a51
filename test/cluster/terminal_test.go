package cluster

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal at which somebody sits.
type terminal struct {
	keys *os.File // what is typed goes in, what is echoed comes out
	line *os.File // what the program sees
}

func openTerminal(t testing.TB) *terminal {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	if err := unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	line, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = line.Close() })
	return &terminal{keys, line}
}

// screen keeps what a program writes while it runs.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// typed runs a program at a terminal and types each line once the program has asked
// for it. It returns what it wrote.
func (c *Cluster) typed(cmd *exec.Cmd, asks string, lines ...string) (string, error) {
	c.T.Helper()
	tty, out := openTerminal(c.T), &screen{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty.line, out, out
	if err := cmd.Start(); err != nil {
		c.T.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for typed := 0; ; {
		select {
		case err := <-ended:
			return out.String(), err
		case <-deadline:
			_ = cmd.Process.Kill()
			<-ended
			c.T.Fatalf("%q does not end; it wrote\n%s", cmd.Args, out)
		case <-tick.C:
			if typed < len(lines) && strings.Count(out.String(), asks) > typed {
				if _, err := tty.keys.WriteString(lines[typed] + "\n"); err != nil {
					c.T.Fatal(err)
				}
				typed++
			}
		}
	}
}
