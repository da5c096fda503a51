package chaos

import (
	"fmt"
	"strings"
	"syscall"
	"time"
)

// reserve leaves a disk less than its reserve and gives the space back: the node
// says why it is read-only, and writes again by itself.
func (r *run) reserve() {
	n := r.head()
	n.disk.Free(1 << 20)
	r.awaitReadOnly(n, true)
	r.hold(short, long)
	n.disk.Fill(false)
	r.awaitReadOnly(n, false)
}

func (r *run) awaitReadOnly(n *node, yes bool) {
	err := wait(r.t.Context(), func() error {
		s, err := r.status(n)
		switch {
		case err != nil:
			return err
		case yes != (s.ReadOnly != ""):
			return fmt.Errorf("%s: read-only is %q", n.id, s.ReadOnly)
		case yes && !strings.Contains(s.ReadOnly, "free"):
			return fmt.Errorf("the reason does not say what to do: %q", s.ReadOnly)
		}
		return nil
	})
	if err != nil {
		r.wrong("disk reserve, wanted read-only %v: %v", yes, err)
	}
}

// diskFull fills a disk at once, before the node could see it coming. It may end
// rather than go on, and starts again when there is room, as its supervisor would
// have it: the kernel reports to the next life what it could not write for the
// last, so the first start may fail too.
func (r *run) diskFull() {
	n := r.head()
	n.forgive(true)
	defer n.forgive(false)
	n.disk.Fill(true)
	r.hold(short, long)
	n.disk.Fill(false)
	r.hold(0, short)
	if err := wait(r.t.Context(), func() error {
		r.restart(n)
		s, err := r.status(n)
		if err == nil && s.Trouble != "" {
			err = fmt.Errorf("%s", s.Trouble)
		}
		return err
	}); err != nil {
		r.wrong("%s does not come back after its disk was full: %v", n.id, err)
	}
}

// slowDisk makes syncs slow.
func (r *run) slowDisk() {
	n := r.head()
	n.disk.Slow(time.Duration(50+r.rnd.IntN(400)) * time.Millisecond)
	r.hold(short, 2*long)
	n.disk.Slow(0)
}

// cutPower cuts the power of nodes at one moment and starts them again.
func (r *run) cutPower(nodes ...*node) {
	for _, n := range nodes {
		n.forgive(true)
		if r.rnd.IntN(2) == 0 {
			if err := n.mount.Flush(); err != nil {
				r.log("flush: %v", err)
			}
		}
	}
	for _, n := range nodes {
		luck := float64(r.rnd.IntN(2)) * r.rnd.Float64()
		if err := n.mount.Cut(r.rnd, luck); err != nil {
			r.wrong("cut the power of %s: %v", n.id, err)
		}
	}
	for _, n := range nodes {
		n.end(syscall.SIGKILL)
		if err := n.remount(r.t, n.disk); err != nil {
			r.wrong("%v", err)
		}
		n.forgive(false)
	}
	r.hold(0, short)
	for _, n := range nodes {
		r.restart(n)
	}
}

func (r *run) powerCut()    { r.cutPower(r.any()) }
func (r *run) powerCutAll() { r.cutPower(r.nodes...) }

// yesterday gives a node its disk as it was a while ago. It must not vote with
// it: it says that it is old and ends, and joins again as a bare node.
func (r *run) yesterday() {
	n := r.any()
	n.end(syscall.SIGTERM)
	old := n.disk.Copy()
	r.restart(n)
	if err := r.ready(n); err != nil { // by then the others know of this life
		r.wrong("before its disk is set back: %v", err)
		return
	}
	r.hold(short, long)
	n.end(syscall.SIGKILL)
	if err := n.remount(r.t, old); err != nil {
		r.wrong("%v", err)
		return
	}
	n.forgive(true)
	r.restart(n)
	if err := wait(r.t.Context(), func() error {
		if n.running() {
			return fmt.Errorf("it runs")
		}
		return nil
	}); err != nil {
		r.wrong("%s has the disk of a while ago, and nobody noticed: %v", n.id, err)
		return
	}
	// It looks like one that a copy of runs elsewhere: which of two sentences it is told
	// depends on the numbers that its lives drew. Both say this.
	if said := n.tail(); !strings.Contains(said, "was set back") {
		r.wrong("%s ended with an old disk and did not say why: %s", n.id, said)
		return
	}
	r.replace(n)
}
