package consensus

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"
)

// Promotion: a node joins without a vote and gets one from raft-autopilot once it
// has been healthy for a while. Nobody is ever removed by it.

// maxVoters is the size of a cluster.
const maxVoters = 7

// trailing is how many entries behind the leader a healthy node may be.
const trailing = 1024

// pilot is what autopilot asks of this node.
type pilot struct{ node *Node }

var _ autopilot.ApplicationIntegration = pilot{}

func (n *Node) newAutopilot() *autopilot.Autopilot {
	every := max(min(n.cfg.Stabilize/2, time.Second), 20*time.Millisecond)
	return autopilot.New(n.raft, pilot{n}, autopilot.WithLogger(raftLogger(n.log)),
		autopilot.WithUpdateInterval(every), autopilot.WithReconcileInterval(every))
}

// steer runs autopilot while this node leads.
func (n *Node) steer() {
	for {
		role := n.helm.now()
		if role.reign != nil && n.cfg.Peers != nil {
			ctx, stop := context.WithCancel(context.Background())
			a := n.newAutopilot()
			a.Start(ctx)
			select {
			case <-role.changed:
			case <-n.dead:
			}
			stop()
			<-a.Stop()
		}
		select {
		case <-role.changed:
		case <-n.dead:
			return
		}
	}
}

// AutopilotConfig implements autopilot.ApplicationIntegration.
func (p pilot) AutopilotConfig() *autopilot.Config {
	return &autopilot.Config{
		LastContactThreshold: recently, MaxTrailingLogs: trailing, MinQuorum: 1,
		ServerStabilizationTime: p.node.cfg.Stabilize,
	}
}

// NotifyState implements autopilot.ApplicationIntegration.
func (pilot) NotifyState(*autopilot.State) {}

// FetchServerStats implements autopilot.ApplicationIntegration.
func (p pilot) FetchServerStats(_ context.Context, servers map[raft.ServerID]*autopilot.Server) map[raft.ServerID]*autopilot.ServerStats {
	all := map[raft.ServerID]*autopilot.ServerStats{}
	for id := range servers {
		if string(id) == p.node.cfg.NodeID {
			own := p.node.status()
			all[id] = &autopilot.ServerStats{LastTerm: own.LastTerm, LastIndex: own.LastIndex}
			continue
		}
		p.node.ask1(string(id))
		if s, ok := p.node.census.get(string(id)); ok {
			all[id] = &autopilot.ServerStats{LastContact: time.Since(s.at), LastTerm: s.LastTerm, LastIndex: s.LastIndex}
		}
	}
	return all
}

// KnownServers implements autopilot.ApplicationIntegration: all that were added.
func (p pilot) KnownServers() map[raft.ServerID]*autopilot.Server {
	all := map[raft.ServerID]*autopilot.Server{}
	for _, s := range p.node.servers() {
		all[s.ID] = &autopilot.Server{
			ID: s.ID, Name: string(s.ID), Address: s.Address, NodeStatus: autopilot.NodeAlive, RaftVersion: 3,
			IsLeader: string(s.ID) == p.node.cfg.NodeID,
		}
	}
	return all
}

// RemoveFailedServer implements autopilot.ApplicationIntegration.
func (pilot) RemoveFailedServer(*autopilot.Server) {}
