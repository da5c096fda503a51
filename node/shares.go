package node

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/cloister-os/cloister/auth/seal"
)

// Locked says which shares of a root key are still wanted, and from whom.
type Locked = seal.LockedStatus

// AskShare asks for one more share of a root key that is split: now says who has to
// bring theirs, refused why the last one was not taken. io.EOF means that there are
// no more.
type AskShare func(now Locked, refused error) (share string, err error)

// maxRefused bounds how many shares in a row may be wrong before a command ends.
const maxRefused = 10

// gather asks until enough shares are there, or no more come.
func gather(g *seal.Gathering, ask AskShare) error {
	if ask == nil {
		return fmt.Errorf("the root key is split: %d people must bring their shares", g.Status().Need)
	}
	var refused error
	for wrong := 0; g.Status().Missing > 0; {
		share, err := ask(g.Status(), refused)
		if errors.Is(err, io.EOF) {
			return nil // what was to be opened will say who is missing
		}
		if err != nil {
			return err
		}
		if refused = g.Add(share); refused == nil {
			wrong = 0
		} else if wrong++; wrong == maxRefused {
			return refused
		}
	}
	return nil
}

// openStopped opens the seal of a node that does not run.
func openStopped(dir string, ask AskShare) (*seal.Keys, error) {
	g, err := seal.GatherAt(dir)
	if err != nil {
		return nil, err
	}
	if g == nil {
		return seal.Open(dir)
	}
	if err := gather(g, ask); err != nil {
		return nil, err
	}
	return g.Open()
}

// rebuildSeal makes the seal of a node out of a backup's, with the root key or the
// shares that it was split into when the backup was made.
func rebuildSeal(dir string, in Bare, files map[string][]byte) (*seal.Keys, error) {
	if in.Root != nil {
		return seal.Rebuild(dir, in.Root, files)
	}
	g, err := seal.GatherFor(files)
	if err != nil {
		return nil, err
	}
	if g == nil {
		return nil, errors.New("the root key lay in a file when this backup was made: give it, root.key of an old node's seal folder, or the recovery key")
	}
	if err := gather(g, in.Shares); err != nil {
		return nil, err
	}
	keys, err := g.Rebuild(dir, files)
	if err != nil {
		return nil, err
	}
	ca, err := keys.CA()
	if err != nil {
		return nil, err
	}
	return keys, keys.KeepFront(ca, frontIdentity(nil, interfaceIPs()))
}

// frontIdentity is what a node that waits for shares is reached by.
func frontIdentity(names []string, ips []net.IP) seal.Identity {
	if own, err := os.Hostname(); err == nil && own != "" {
		names = append(names, own)
	}
	return seal.Identity{Names: append(names, "localhost"), IPs: append(ips, net.IPv4(127, 0, 0, 1), net.IPv6loopback)}
}
