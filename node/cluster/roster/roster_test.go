package roster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/node/cluster"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus"
	"github.com/cloister-os/cloister/store/storetest"
)

// raft is a consensus that believes what it is told.
type raft struct {
	mu      sync.Mutex
	members []consensus.Member
	fails   error // the next removal
}

func (r *raft) Members(context.Context) ([]consensus.Member, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.members), nil
}
func (r *raft) Leads() bool { return true }
func (r *raft) AddNonvoter(_ context.Context, p consensus.Peer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members = append(r.members, consensus.Member{ID: p.ID, Address: p.Address, Healthy: true})
	return nil
}
func (r *raft) Remove(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fails != nil {
		err := r.fails
		r.fails = nil
		return err
	}
	r.members = slices.DeleteFunc(r.members, func(m consensus.Member) bool { return m.ID == id })
	return nil
}
func (r *raft) Transfer(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	given := false
	for i := range r.members {
		m := &r.members[i]
		next := !given && m.Voter && (m.ID == id || id == "" && !m.Leader)
		m.Leader, given = next, given || next
	}
	return nil
}
func (r *raft) Readdress(_ context.Context, p consensus.Peer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.members {
		if r.members[i].ID == p.ID {
			r.members[i].Address = p.Address
		}
	}
	return nil
}

func (r *raft) vote(ids ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.members {
		r.members[i].Voter = r.members[i].Voter || slices.Contains(ids, r.members[i].ID)
	}
}

// house is a roster of a cluster of one, with its peer port open.
type house struct {
	*Roster
	*guardtest.House
	t     *testing.T
	raft  *raft
	store store.Store
	admin auth.Principal
	ahead time.Duration
}

func open(t *testing.T) *house {
	t.Helper()
	st := storetest.NewModel(nil)
	h := &house{House: guardtest.Open(t, st), t: t, store: st, admin: guardtest.Admin()}
	h.raft = &raft{members: []consensus.Member{{ID: "node-1", Address: "10.0.0.1:8444", Voter: true, Leader: true, Self: true, Healthy: true}}}
	keys, err := seal.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ca, err := keys.CA()
	if err != nil {
		t.Fatal(err)
	}
	h.Roster, err = New(t.Context(), Config{
		Store: st, Raft: h.raft, Door: h.Guard, Cluster: "c1", Node: "node-1", Address: "10.0.0.1:8444", CA: ca.Certificate(), Handover: keys.Handover,
		Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Now().Add(h.ahead) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	changed := make(chan struct{}, 100)
	go func() {
		ended <- h.Run(ctx, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	h.announce("node-1", "10.0.0.1:8444", 0)
	return h
}

func (h *house) announce(node, address string, joined int64) {
	h.t.Helper()
	if err := h.Announce(h.t.Context(), node, Announcement{Address: address, URL: "https://" + node, Joined: joined}); err != nil {
		h.t.Fatal(err)
	}
	h.follow()
}

// follow waits until the roster has seen what the store has.
func (h *house) follow() {
	h.t.Helper()
	want := map[string]entry{}
	if err := h.store.View(h.t.Context(), store.Fresh, func(s store.Snapshot) error {
		for item, err := range s.Scan(nodes.Prefix(), "") {
			if err != nil {
				return err
			}
			if err := read(want, item.Key, item.Value); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		h.mu.RLock()
		same := fmt.Sprint(h.entries) == fmt.Sprint(want)
		h.mu.RUnlock()
		if same {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatal("the roster does not follow the store")
		}
	}
}

func (h *house) invite() cluster.Token {
	h.t.Helper()
	i, err := h.Invite(h.t.Context(), h.admin, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	tok, err := cluster.ParseToken(i.Token)
	if err != nil {
		h.t.Fatal(err)
	}
	return tok
}

// join lets a node in and has it announce itself.
func (h *house) join(node, address string) cluster.JoinReply {
	h.t.Helper()
	reply, err := h.Join(h.t.Context(), cluster.JoinRequest{Secret: h.invite().Secret, Node: node, Address: address})
	if err != nil {
		h.t.Fatal(err)
	}
	h.follow()
	h.announce(node, address, reply.Joined)
	return reply
}

func (h *house) roles() string {
	h.t.Helper()
	list, err := h.List(h.t.Context(), h.admin)
	if err != nil {
		h.t.Fatal(err)
	}
	var out []string
	for _, n := range list {
		out = append(out, n.ID+" "+n.Role)
	}
	return strings.Join(out, ", ")
}

func TestANodeIsInvitedJoinsAndIsAdded(t *testing.T) {
	h := open(t)
	tok := h.invite()
	if !slices.Contains(tok.Addresses, "10.0.0.1:8444") || tok.Cluster != "c1" {
		t.Errorf("%+v", tok)
	}
	reply, err := h.Join(t.Context(), cluster.JoinRequest{Secret: tok.Secret, Node: "node-2", Address: "10.0.0.2:8444"})
	if err != nil {
		t.Fatal(err)
	}
	if reply.Cluster != "c1" || len(reply.Seal) == 0 || reply.Joined == 0 || reply.Members["node-1"] != "10.0.0.1:8444" || reply.Members["node-2"] != "" {
		t.Errorf("%+v", reply)
	}
	h.follow()
	if got := h.roles(); got != "node-1 leader, node-2 joining" {
		t.Error(got)
	}
	h.announce("node-2", "10.0.0.2:8444", reply.Joined)
	if got := h.roles(); got != "node-1 leader, node-2 learner" {
		t.Error(got)
	}
	events := 0
	for _, rec := range h.Records(t) {
		if rec.Kind == audit.Event && rec.Action == eventJoin {
			events++
		}
	}
	if events != 1 {
		t.Errorf("%d joins on the record", events)
	}
}

func TestTheStoreHoldsOnlyAnInvitationsHash(t *testing.T) {
	h := open(t)
	tok := h.invite()
	found := 0
	if err := h.store.View(t.Context(), store.Local, func(s store.Snapshot) error {
		for item, err := range s.Scan(invites.Prefix(), "") {
			if err != nil {
				return err
			}
			found++
			if strings.Contains(string(item.Key)+string(item.Value), string(tok.Secret)) {
				t.Error("the secret is in the store")
			}
		}
		return nil
	}); err != nil || found != 1 {
		t.Errorf("%d invitations, %v", found, err)
	}
}

func TestWhoMayNotJoinIsToldWhatToDo(t *testing.T) {
	h := open(t)
	used := h.invite()
	if _, err := h.Join(t.Context(), cluster.JoinRequest{Secret: used.Secret, Node: "node-2", Address: "10.0.0.2:8444"}); err != nil {
		t.Fatal(err)
	}
	late := h.invite()
	tests := []struct {
		name   string
		secret []byte
		node   string
		at     string
		want   string
	}{
		{"a used invitation", used.Secret, "node-3", "10.0.0.3:8444", "was used by node node-2; make a new one with: cloister node invite"},
		{"a foreign invitation", make([]byte, 32), "node-3", "10.0.0.3:8444", "knows no such invitation; make one with: cloister node invite"},
		{"a name that is taken", h.invite().Secret, "node-1", "10.0.0.3:8444", "cloister node remove node-1"},
		{"a bad name", h.invite().Secret, "Node 3", "10.0.0.3:8444", "a-z, 0-9 and -"},
		{"an address that names nobody", h.invite().Secret, "node-3", "0.0.0.0:8444", "as the other nodes reach it"},
		{"no port", h.invite().Secret, "node-3", "10.0.0.3", "HOST:PORT"},
		{"an invitation that ran out", late.Secret, "node-3", "10.0.0.3:8444", "ran out at"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if strings.Contains(tt.name, "ran out") {
				h.ahead = MaxLife + time.Second
			}
			_, err := h.Join(t.Context(), cluster.JoinRequest{Secret: tt.secret, Node: tt.node, Address: tt.at})
			if !errors.Is(err, cluster.ErrRefused) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one sentence with %q", err, tt.want)
			}
		})
	}
}

func TestOneInvitationLetsOneNodeInHoweverManyTry(t *testing.T) {
	h := open(t)
	tok := h.invite()
	var in sync.WaitGroup
	var mu sync.Mutex
	joined := 0
	for i := range 8 {
		in.Go(func() {
			_, err := h.Join(t.Context(), cluster.JoinRequest{Secret: tok.Secret, Node: fmt.Sprintf("node-%d", i+2), Address: fmt.Sprintf("10.0.0.%d:8444", i+2)})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				joined++
			} else if !errors.Is(err, cluster.ErrRefused) {
				t.Error(err)
			}
		})
	}
	in.Wait()
	if joined != 1 {
		t.Errorf("%d nodes came in", joined)
	}
}

func TestARemovedNodeIsRefusedUntilItJoinsAnew(t *testing.T) {
	h := open(t)
	first := h.join("node-2", "10.0.0.2:8444")
	h.raft.vote("node-2")
	if err := h.Remove(t.Context(), h.admin, "node-2"); err != nil {
		t.Fatal(err)
	}
	h.follow()
	if got := h.roles(); got != "node-1 leader" {
		t.Error(got)
	}
	old := seal.Identity{Cluster: "c1", Node: "node-2", Joined: first.Joined}
	if err := h.Admit(old); !errors.Is(err, cluster.ErrRefused) || !strings.Contains(err.Error(), "was removed") {
		t.Errorf("a removed node: %v", err)
	}
	if err := h.Announce(t.Context(), "node-2", Announcement{Address: "10.0.0.2:8444", Joined: first.Joined}); !errors.Is(err, cluster.ErrRefused) {
		t.Errorf("its announcement: %v", err)
	}
	second := h.join("node-2", "10.0.0.22:8444")
	if second.Joined <= first.Joined {
		t.Fatal("the two cannot be told apart")
	}
	if err := h.Admit(old); !errors.Is(err, cluster.ErrRefused) || !strings.Contains(err.Error(), "another node joined as node-2") {
		t.Errorf("the one before: %v", err)
	}
	if err := h.Admit(seal.Identity{Cluster: "c1", Node: "node-2", Joined: second.Joined}); err != nil {
		t.Errorf("the one after: %v", err)
	}
	// Who was off while node-2 and node-7 joined must not keep them out.
	if err := h.Admit(seal.Identity{Cluster: "c1", Node: "node-7", Joined: 9}); err != nil {
		t.Errorf("a node that is not known here: %v", err)
	}
}

func TestARemovalThatWasInterruptedIsFinished(t *testing.T) {
	h := open(t)
	h.join("node-2", "10.0.0.2:8444")
	h.raft.fails = errors.New("the lead changed")
	if err := h.Remove(t.Context(), h.admin, "node-2"); err == nil {
		t.Fatal("the failure was not told")
	}
	h.follow()
	if err := h.Remove(t.Context(), h.admin, "node-2"); err != nil {
		t.Errorf("again: %v", err)
	}
	if got := h.roles(); got != "node-1 leader" {
		t.Error(got)
	}
	if err := h.Remove(t.Context(), h.admin, "node-2"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("once more: %v", err)
	}
}

func TestTheLeadIsHandedOver(t *testing.T) {
	h := open(t)
	for name, want := range map[string]string{"": "no other node votes", "node-9": "no node \"node-9\""} {
		if err := h.Transfer(t.Context(), h.admin, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("to %q: %v", name, err)
		}
	}
	h.join("node-2", "10.0.0.2:8444")
	if err := h.Transfer(t.Context(), h.admin, "node-2"); err == nil || !strings.Contains(err.Error(), "does not vote yet") {
		t.Errorf("to a learner: %v", err)
	}
	h.raft.vote("node-2")
	if err := h.Transfer(t.Context(), h.admin, "node-2"); err != nil {
		t.Fatal(err)
	}
	if got := h.roles(); got != "node-1 voter, node-2 leader" {
		t.Error(got)
	}
	// A leader that is removed hands over first.
	if err := h.Remove(t.Context(), h.admin, "node-2"); err != nil {
		t.Fatal(err)
	}
	h.follow()
	if got := h.roles(); got != "node-1 leader" {
		t.Error(got)
	}
	if err := h.Remove(t.Context(), h.admin, "node-1"); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "add another one first") {
		t.Errorf("the last one: %v", err)
	}
}

func TestANodeThatMovedIsReachedAtItsNewAddress(t *testing.T) {
	h := open(t)
	joined := h.join("node-2", "10.0.0.2:8444").Joined
	if err := h.Readdress(t.Context(), h.admin, "node-2", "10.0.0.3:8444"); err != nil {
		t.Fatal(err)
	}
	h.follow()
	if a := h.Addresses()["node-2"]; a != "10.0.0.3:8444" || h.raft.members[1].Address != a {
		t.Errorf("%s, %+v", a, h.raft.members)
	}
	h.announce("node-2", "10.0.0.4:8444", joined) // it was started with another one
	if a := h.Addresses()["node-2"]; a != "10.0.0.4:8444" || h.raft.members[1].Address != a {
		t.Errorf("%s, %+v", a, h.raft.members)
	}
	for address, want := range map[string]error{"10.0.0.4": store.ErrInvalid, ":8444": store.ErrInvalid} {
		if err := h.Readdress(t.Context(), h.admin, "node-2", address); !errors.Is(err, want) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := h.Readdress(t.Context(), h.admin, "node-9", "10.0.0.4:8444"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
}

func TestOnlyOperatorsAndAdministratorsChangeTheCluster(t *testing.T) {
	h := open(t)
	p := guardtest.Asker()
	_, errList := h.List(t.Context(), p)
	_, errInvite := h.Invite(t.Context(), p, 0)
	for name, err := range map[string]error{
		"list": errList, "invite": errInvite, "remove": h.Remove(t.Context(), p, "node-1"),
		"transfer": h.Transfer(t.Context(), p, ""), "readdress": h.Readdress(t.Context(), p, "node-1", "10.0.0.9:1"),
	} {
		if !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	operator := guardtest.Person("u-operator", auth.Operator)
	if _, err := h.Invite(t.Context(), operator, 5*time.Minute); err != nil {
		t.Errorf("an operator: %v", err)
	}
}
