package roster

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/node/cluster"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus"
)

// MaxLife is how long an invitation is good, at most and by default.
const MaxLife = 30 * time.Minute

// MaxNodes bounds a cluster.
const MaxNodes = 15

// eventJoin is what stands on the record when a node came in.
const eventJoin auth.Action = "cluster.join"

// invite is what the store holds of an invitation, under its hash.
type invite struct {
	V       int    `cbor:"1,keyasint"`
	Expires int64  `cbor:"2,keyasint"`           // Unix milliseconds
	By      string `cbor:"3,keyasint"`           // the id of who invited
	Used    string `cbor:"4,keyasint,omitempty"` // the node that came in by it
}

func inviteKey(secret []byte) store.Key {
	sum := sha256.Sum256(secret)
	return invites.Key(hex.EncodeToString(sum[:]))
}

// Invitation lets one node in.
type Invitation struct {
	Token   string
	Expires time.Time
}

// Command is what to run on the new machine.
func (i Invitation) Command() string {
	return "cloister node join " + i.Token + " --data DIR --node NAME --cluster-peer HOST:PORT"
}

// Invite makes an invitation for one node, good for life.
func (r *Roster) Invite(ctx context.Context, p auth.Principal, life time.Duration) (Invitation, error) {
	if life <= 0 {
		life = MaxLife
	}
	if life > MaxLife || life < time.Minute {
		return Invitation{}, fmt.Errorf("an invitation is good for 1 to %d minutes: %w", int(MaxLife/time.Minute), store.ErrInvalid)
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return Invitation{}, err
	}
	expires := r.cfg.Now().Add(life).Truncate(time.Second)
	err := r.change(ctx, p, "invite a node", nil, func(ctx context.Context, permit *guard.Permit) error {
		if r.cfg.Address == "" {
			return fmt.Errorf("this node's peer port is closed; start it with --cluster-peer HOST:PORT, an address that the other nodes can reach: %w", store.ErrInvalid)
		}
		row, err := cbor.Marshal(invite{V: entryVersion, Expires: expires.UnixMilli(), By: p.ID})
		if err != nil {
			return err
		}
		tx := store.NewTx()
		tx.Check(inviteKey(secret), 0)
		tx.Put(inviteKey(secret), row)
		if err := r.forgetOld(ctx, tx); err != nil {
			return err
		}
		if err := r.cfg.Door.Finish(tx, permit, guard.Outcome{Status: guard.StatusOK}); err != nil {
			return err
		}
		_, err = r.cfg.Store.Apply(ctx, tx)
		return err
	})
	if err != nil {
		return Invitation{}, err
	}
	t := cluster.Token{Cluster: r.cfg.Cluster, Addresses: r.doors(), Pin: cluster.Pin(r.cfg.CA), Secret: secret, Expires: expires.Unix()}
	return Invitation{Token: t.String(), Expires: expires}, nil
}

// maxDoors bounds the addresses of a token.
const maxDoors = 5

// doors is where an invited node may knock: here first.
func (r *Roster) doors() []string {
	out := []string{r.cfg.Address}
	others := r.Addresses()
	for _, node := range sorted(others) {
		if len(out) < maxDoors {
			out = append(out, others[node])
		}
	}
	return out
}

func sorted[T any](m map[string]T) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// forgetAfter is how long an invitation that is over can still be told apart from
// one that never was.
const forgetAfter = 24 * time.Hour

// forgetOld removes invitations that were over long ago.
func (r *Roster) forgetOld(ctx context.Context, tx *store.Tx) error {
	return r.cfg.Store.View(ctx, store.Local, func(s store.Snapshot) error {
		seen := 0
		for item, err := range s.Scan(invites.Prefix(), "") {
			if err != nil {
				return err
			}
			var in invite
			if cbor.Unmarshal(item.Value, &in) != nil || r.cfg.Now().Sub(time.UnixMilli(in.Expires)) > forgetAfter {
				tx.Delete(item.Key)
			}
			if seen++; seen == 200 {
				break
			}
		}
		return nil
	})
}

var nodeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

// CheckAddress says why an address cannot be a peer's.
func CheckAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return errors.New("a peer address is HOST:PORT, like 10.0.0.2:8444")
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return errors.New("a peer address names this machine as the other nodes reach it, like 10.0.0.2:8444")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return errors.New("a peer address ends with a port from 1 to 65535")
	}
	return nil
}

// Join takes a node in that shows an invitation. It implements cluster.Joiner.
func (r *Roster) Join(ctx context.Context, in cluster.JoinRequest) (cluster.JoinReply, error) {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w", cluster.ErrRefused, fmt.Errorf(format, args...))
	}
	if !nodeName.MatchString(in.Node) {
		return cluster.JoinReply{}, refuse("a node's name has 1 to 40 characters of a-z, 0-9 and -")
	}
	if err := CheckAddress(in.Address); err != nil {
		return cluster.JoinReply{}, refuse("%w", err)
	}
	keys, err := r.cfg.Handover()
	if err != nil {
		return cluster.JoinReply{}, refuse("%w", err)
	}
	var joined int64
	_, err = r.cfg.Store.Update(ctx, func(u *store.Update) error {
		inv, err := r.good(u, in.Secret)
		if err != nil {
			return err
		}
		before, known, err := get(u, in.Node)
		if err != nil {
			return err
		}
		if known && !before.Removed {
			return refuse("a node called %s is in the cluster already; choose another name with --node, or remove that one first with: cloister node remove %s", in.Node, in.Node)
		}
		if n := r.count(); n >= MaxNodes {
			return refuse("the cluster has %d nodes, and that is the most", n)
		}
		joined = max(r.cfg.Now().UnixMilli(), before.Joined+1)
		inv.Used = in.Node
		row, err := cbor.Marshal(inv)
		if err != nil {
			return err
		}
		u.Put(inviteKey(in.Secret), row)
		if err := put(u, in.Node, entry{Address: in.Address, Joined: joined}); err != nil {
			return err
		}
		return audit.Append(u.Tx, audit.Record{
			Kind: audit.Event, Actor: audit.Actor{Kind: auth.System, ID: in.Node}, Action: eventJoin,
			Resource: audit.Resource{Type: auth.TheSystem.Type, ID: auth.TheSystem.ID}, Detail: map[string]any{"node": in.Node, "invited_by": inv.By}, Node: r.cfg.Node,
		})
	})
	if err != nil {
		return cluster.JoinReply{}, soften(err)
	}
	r.log.Info("a node joined; it will be added when it starts", "node", in.Node, "address", in.Address)
	members := r.Addresses()
	delete(members, in.Node)
	members[r.cfg.Node] = r.cfg.Address
	return cluster.JoinReply{Cluster: r.cfg.Cluster, Service: r.cfg.Service, Joined: joined, Seal: keys, Members: members}, nil
}

// soften turns what only this side understands into what the joiner can act on.
func soften(err error) error {
	if errors.Is(err, cluster.ErrRefused) {
		return err
	}
	return fmt.Errorf("%w: the cluster cannot take a node in now (%w); see cloister node list, and try again", cluster.ErrRefused, err)
}

// good is the invitation of a secret, when it may be used.
func (r *Roster) good(u *store.Update, secret []byte) (invite, error) {
	var in invite
	item, err := u.Get(inviteKey(secret))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return in, fmt.Errorf("%w: this cluster knows no such invitation; make one with: cloister node invite", cluster.ErrRefused)
	case err != nil:
		return in, err
	}
	if err := cbor.Unmarshal(item.Value, &in); err != nil {
		return in, fmt.Errorf("the invitation is damaged: %w", store.ErrInvalid)
	}
	switch expires := time.UnixMilli(in.Expires); {
	case in.Used != "":
		return in, fmt.Errorf("%w: this invitation was used by node %s; make a new one with: cloister node invite", cluster.ErrRefused, in.Used)
	case r.cfg.Now().After(expires):
		return in, fmt.Errorf("%w: this invitation ran out at %s; make a new one with: cloister node invite", cluster.ErrRefused, expires.UTC().Format("15:04:05 UTC"))
	}
	return in, nil
}

func (r *Roster) count() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n := 0
	for _, e := range r.entries {
		if !e.Removed {
			n++
		}
	}
	return n
}

// Announcement is what a node says of itself when it has started.
type Announcement struct {
	Address string `json:"address"`
	URL     string `json:"url"`
	Joined  int64  `json:"joined"`
}

// Announce takes in what a node says of itself: it is added when it is new, and
// its address is corrected when it moved.
func (r *Roster) Announce(ctx context.Context, node string, a Announcement) error {
	if a.Address != "" {
		if err := CheckAddress(a.Address); err != nil {
			return err
		}
	}
	if err := r.enter(ctx, node, a); err != nil {
		return err
	}
	members, err := r.cfg.Raft.Members(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(members, func(m consensus.Member) bool { return m.ID == node })
	switch {
	case a.Address == "":
		return nil // a node alone
	case i < 0:
		return r.cfg.Raft.AddNonvoter(ctx, consensus.Peer{ID: node, Address: a.Address})
	case members[i].Address != a.Address:
		return r.cfg.Raft.Readdress(ctx, consensus.Peer{ID: node, Address: a.Address})
	}
	return nil
}

// enter writes what a node said of itself into its entry.
func (r *Roster) enter(ctx context.Context, node string, a Announcement) error {
	if e, ok := r.entry(node); ok && !e.Removed && e.Address == a.Address && e.URL == a.URL && e.Joined == a.Joined {
		return nil
	}
	_, err := r.cfg.Store.Update(ctx, func(u *store.Update) error {
		e, known, err := get(u, node)
		if err != nil {
			return err
		}
		if known && (e.Removed && e.Joined >= a.Joined || e.Joined > a.Joined) {
			return fmt.Errorf("%w: node %s was removed from the cluster; let it join again with an empty data folder", cluster.ErrRemoved, node)
		}
		return put(u, node, entry{Address: a.Address, URL: a.URL, Joined: a.Joined})
	})
	return err
}
