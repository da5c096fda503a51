package node

import (
	"context"
	"sync"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus"
)

// openClock begins to follow leader time, which the rooms judge by: nodes whose
// own clocks differ agree on what is over.
func (n *Node) openClock() {
	n.clock = store.NewClock(n.store)
	n.rooms.runs("leader time", n.clock.Run)
	n.clock.Now() // the first question has it read
}

// leave is how long a run of an agent's other version is left to other nodes.
func (n *Node) leave() time.Duration {
	if n.port == nil {
		return 0
	}
	return time.Minute
}

// Bounds of what is known of the other nodes.
const (
	membersAge  = 2 * time.Second // older than that it is asked for anew
	membersWait = time.Second
	awayAfter   = 5 * time.Second // silent for so long a node is away
)

// others remembers for a moment how the leader sees the nodes.
type others struct {
	mu    sync.Mutex // guards all below
	asked time.Time
	list  []consensus.Member
}

// away says whether another node is not there, and since when the leader has not
// heard of it; that is not known of one that the cluster does not have.
func (n *Node) away(node string) (since time.Time, away bool) {
	n.others.mu.Lock()
	defer n.others.mu.Unlock()
	if time.Since(n.others.asked) > membersAge {
		ctx, cancel := context.WithTimeout(context.Background(), membersWait)
		defer cancel()
		list, err := n.store.Members(ctx)
		if err != nil {
			return time.Time{}, false // nobody can say
		}
		n.others.asked, n.others.list = time.Now(), list
	}
	for _, m := range n.others.list {
		if m.ID == node {
			return silence(m, time.Since(n.others.asked), n.clock.Now())
		}
	}
	return time.Time{}, true
}

// unheard is longer than any leader leads: one that has not heard of a node since
// it leads does not know how long that is.
const unheard = 10 * 365 * 24 * time.Hour

// silence says of a node, as the leader saw it a while ago, whether it is away
// now, and since when if that is known.
func silence(m consensus.Member, ago time.Duration, now time.Time) (since time.Time, away bool) {
	away = !m.Leader && !m.Self && !m.Healthy && (m.LastContact > awayAfter || m.LastContact+ago > awayAfter)
	if m.LastContact < unheard {
		since = now.Add(-m.LastContact - ago).Truncate(time.Second)
	}
	return since, away
}

// awaitSetup removes setup.json once setup has been done, through whichever node.
func (n *Node) awaitSetup(ctx context.Context) error {
	if err := n.sessions.AwaitSetup(ctx); err != nil {
		return err
	}
	n.setupDone()
	return nil
}
