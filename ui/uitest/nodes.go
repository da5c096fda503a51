package uitest

import (
	"context"
	"slices"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/view"
)

// nodes are three machines, one of which does not answer.
func nodes() []view.Node {
	until := now.Add(19 * time.Hour)
	return []view.Node{
		{Name: "cloister-1", URL: "https://cloister-1.meridian.example:8443", Peer: "10.20.0.11:8444", Role: "leads", Self: true, Tone: view.OK, State: "well", Applied: 39112, Certificate: until, Free: 412 << 30, Version: "0.1.0"},
		{Name: "cloister-2", URL: "https://cloister-2.meridian.example:8443", Peer: "10.20.0.12:8444", Role: "votes", CanLead: true, Tone: view.OK, State: "well", Applied: 39112, Certificate: until.Add(-3 * time.Hour), Free: 398 << 30, Version: "0.1.0"},
		{Name: "cloister-3", URL: "https://cloister-3.meridian.example:8443", Peer: "10.20.0.13:8444", Role: "votes", Tone: view.Warn, State: "not well", Note: "The leader has not heard from it for 4 minutes.", Applied: 38771, Free: 401 << 30, Version: "0.1.0"},
	}
}

type nodeRoom struct{ *World }

var _ ui.Nodes = nodeRoom{}

func (r nodeRoom) List(context.Context, auth.Principal) (view.Nodes, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := view.Nodes{List: slices.Clone(r.nodes), Manage: true, Web: view.Certificate{
		Tone: view.OK, State: "internal", Names: []string{"cloister.meridian.example", "cloister-1.meridian.example"}, Issuer: "Cloister internal CA 4f8a1c02", Until: now.Add(19 * time.Hour),
	}}
	if len(d.List) == 0 {
		d.List, d.Shut = nodes()[:1], r.shut
	}
	return d, r.may(auth.ClusterRead)
}

func (r nodeRoom) Invite(context.Context, auth.Principal) (view.Invitation, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return view.Invitation{
		Command: "cloister node join cj_pQF4IDc2NGM3ZDE2Zjk1Nzc5N2IxN2NlZjdkMzQ5Mjc1OGRjAoFvMTI3LjAuMC4xOjE5NDQ0A1ggSfy5Ti-GXUsyzgfCqQQ9yMndOwMNzqpzEZP_4iYP3joEWCDfwVEOriB6mi7tK8eKbjDoCK46QAteNRgLQBSOhAbSJAUaawRnNw --data DIR --node NAME --cluster-peer HOST:PORT",
		Until:   now.Add(30 * time.Minute),
	}, r.may(auth.ClusterManage)
}

func (r nodeRoom) Lead(_ context.Context, _ auth.Principal, node string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.ClusterManage); err != nil {
		return err
	}
	if !slices.ContainsFunc(r.nodes, func(n view.Node) bool { return n.Name == node && n.CanLead }) {
		return &ui.InputError{Text: node + " cannot lead now."}
	}
	return r.may(auth.ClusterManage)
}

func (r nodeRoom) Remove(_ context.Context, _ auth.Principal, node string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.ClusterManage); err != nil {
		return err
	}
	i := slices.IndexFunc(r.nodes, func(n view.Node) bool { return n.Name == node })
	if i < 0 {
		return store.ErrNotFound
	}
	r.nodes = slices.Delete(r.nodes, i, i+1)
	return r.may(auth.ClusterManage)
}

// ShutPeerPort makes the node one that no other can join.
func (w *World) ShutPeerPort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shut = true
}
