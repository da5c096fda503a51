package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus"
	"github.com/cloister-os/cloister/test/kvnode/wire"
)

const (
	maxBody   = 1 << 20
	maxItems  = 20_000 // of one view
	maxLeaves = 2_000  // of one page
	// patience bounds what the node does for one request.
	patience = 20 * time.Second
)

// front is the key-value front.
func (n *node) front() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+wire.TxPath, answer(n.tx))
	mux.HandleFunc("POST "+wire.ReadPath, answer(n.read))
	mux.HandleFunc("POST "+wire.AdminPath, answer(n.admin))
	mux.HandleFunc("GET "+wire.LogPath, n.leaves)
	mux.HandleFunc("GET "+wire.StatusPath, func(w http.ResponseWriter, r *http.Request) { reply(w, n.status(r.Context())) })
	return mux
}

// answer decodes a request, runs f and encodes what it returns.
func answer[In, Out any](f func(context.Context, In) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in In
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		d.DisallowUnknownFields()
		if err := d.Decode(&in); err != nil {
			refuse(w, fmt.Errorf("%w: %w", store.ErrInvalid, err))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		out, err := f(ctx, in)
		if err != nil {
			refuse(w, err)
			return
		}
		reply(w, out)
	}
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client sees what is missing
}

// kinds maps the store's errors; what is not listed leaves the outcome open.
var kinds = []struct {
	err    error
	kind   wire.Kind
	status int
}{
	{store.ErrUnknown, wire.Unknown, http.StatusGatewayTimeout}, // first: it may wrap another
	{store.ErrConflict, wire.Conflict, http.StatusConflict},
	{store.ErrLimit, wire.Limit, http.StatusConflict},
	{store.ErrTooLarge, wire.Invalid, http.StatusBadRequest},
	{store.ErrInvalid, wire.Invalid, http.StatusBadRequest},
	{store.ErrCompacted, wire.Gone, http.StatusGone},
	{store.ErrReadOnly, wire.ReadOnly, http.StatusServiceUnavailable},
	{store.ErrBusy, wire.Busy, http.StatusServiceUnavailable},
	{store.ErrClosed, wire.Busy, http.StatusServiceUnavailable},
	{context.DeadlineExceeded, wire.Busy, http.StatusServiceUnavailable}, // Apply: it was taken back before it entered a group
	{context.Canceled, wire.Busy, http.StatusServiceUnavailable},
}

func refuse(w http.ResponseWriter, err error) {
	p, status := wire.Problem{Kind: wire.Unknown, Detail: err.Error()}, http.StatusInternalServerError
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			p.Kind, status = k.kind, k.status
			break
		}
	}
	var limit *store.LimitError
	if errors.As(err, &limit) {
		p.Sum = limit.Sum
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p)
}

// once is where idempotency keys are.
const once store.Key = "S/once/"

// tx applies a transaction.
func (n *node) tx(ctx context.Context, in wire.Tx) (wire.Done, error) {
	if out, done := n.spoilTx(ctx, &in); done {
		return out, nil
	}
	tx, err := build(in)
	if err != nil {
		return wire.Done{}, err
	}
	var res store.Result
	if in.Bulk {
		res, err = n.store.Submit(ctx, tx, store.Bulk).Wait(ctx)
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			err = fmt.Errorf("%w: %w", store.ErrUnknown, err) // it goes on without us
		}
	} else {
		res, err = n.store.Apply(ctx, tx)
	}
	if err != nil && in.Once != "" && errors.Is(err, store.ErrConflict) {
		return n.again(ctx, in.Once, err)
	}
	return wire.Done{Version: res.Version, Seqs: res.Seqs, Sums: res.Sums}, err
}

// again answers a transaction whose conflict may be its own first time.
func (n *node) again(ctx context.Context, key string, conflict error) (wire.Done, error) {
	done := wire.Done{Duplicate: true}
	err := n.store.View(ctx, store.Fresh, func(s store.Snapshot) error {
		item, err := s.Get(once + store.Key(key))
		done.Version = item.Version
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return wire.Done{}, conflict
	}
	if err != nil { // the conflict may be another's or our own
		return wire.Done{}, fmt.Errorf("%w: whether %q happened could not be read: %v", store.ErrUnknown, key, err)
	}
	return done, nil
}

func build(in wire.Tx) (*store.Tx, error) {
	tx := store.NewTx()
	var bad []string
	key := func(k string) store.Key {
		if !strings.HasPrefix(k, "S/kv/") && !strings.HasPrefix(k, "H/kv/") {
			bad = append(bad, k)
		}
		return store.Key(k)
	}
	if in.Once != "" {
		tx.Check(once+store.Key(in.Once), 0)
		tx.Put(once+store.Key(in.Once), nil)
	}
	for _, c := range in.Checks {
		tx.Check(key(c.Key), c.Version)
	}
	for _, p := range in.Puts {
		tx.Put(key(p.Key), []byte(p.Value))
	}
	for _, k := range in.Deletes {
		tx.Delete(key(k))
	}
	for _, a := range in.Appends {
		tx.Append(a.Log, []byte(a.Leaf))
	}
	for _, a := range in.Adds {
		tx.Add(key(a.Counter), a.Delta, a.Limit, a.Window)
	}
	if len(bad) > 0 {
		return nil, fmt.Errorf("%w: %q is not under S/kv/ or H/kv/", store.ErrInvalid, bad)
	}
	return tx, tx.Err()
}

// read reads everything at one version.
func (n *node) read(ctx context.Context, in wire.Read) (wire.View, error) {
	at := store.Fresh
	if in.Local || n.cfg.bug == bugStale {
		at = store.Local
		if err := n.reach(ctx, in.Least); err != nil {
			return wire.View{}, err
		}
	}
	var out wire.View
	err := n.store.View(ctx, at, func(s store.Snapshot) error {
		out = wire.View{Version: s.Version()}
		return look(s, in, &out)
	})
	return out, err
}

// reach waits until this node has a version.
func (n *node) reach(ctx context.Context, v store.Version) error {
	for n.store.Applied() < v {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: version %d has not come here yet", store.ErrBusy, v)
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}

func look(s store.Snapshot, in wire.Read, out *wire.View) error {
	for _, k := range in.Keys {
		item, err := s.Get(store.Key(k))
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		out.Items = append(out.Items, wire.Item{Key: k, Value: string(item.Value), Version: item.Version})
	}
	for _, p := range in.Prefixes {
		for item, err := range s.Scan(store.Key(p), "") {
			if err != nil {
				return err
			}
			if len(out.Items) >= maxItems {
				return fmt.Errorf("%w: more than %d keys", store.ErrTooLarge, maxItems)
			}
			out.Items = append(out.Items, wire.Item{Key: string(item.Key), Value: string(item.Value), Version: item.Version})
		}
	}
	for _, k := range in.Counters {
		sum, err := s.Sum(store.Key(k), 0)
		if err != nil {
			return err
		}
		out.Sums = append(out.Sums, sum)
	}
	var err error
	out.Logs, err = trees(s, in.Logs)
	return err
}

func trees(s store.Snapshot, names []string) (map[string]wire.Tree, error) {
	if len(names) == 0 {
		return nil, nil
	}
	out := map[string]wire.Tree{}
	for _, name := range names {
		l := s.Log(name)
		root, err := l.Root()
		if err != nil {
			return nil, err
		}
		out[name] = wire.Tree{Size: l.Size(), Root: root}
	}
	return out, nil
}

// leaves gives a page of a log as this node has it.
func (n *node) leaves(w http.ResponseWriter, r *http.Request) {
	from, err := strconv.ParseUint(r.URL.Query().Get("from"), 10, 64)
	if err != nil {
		refuse(w, fmt.Errorf("%w: from: %w", store.ErrInvalid, err))
		return
	}
	var out wire.Leaves
	err = n.store.View(r.Context(), store.Local, func(s store.Snapshot) error {
		l := s.Log(r.URL.Query().Get("name"))
		out = wire.Leaves{Size: l.Size()}
		for leaf, err := range l.Leaves(from) {
			if err != nil {
				return err
			}
			if len(out.Leaves) == maxLeaves {
				break
			}
			out.Leaves = append(out.Leaves, wire.Leaf{Seq: leaf.Seq, Version: leaf.Version, Time: leaf.Time, Data: string(leaf.Data)})
		}
		return nil
	})
	if err != nil {
		refuse(w, err)
		return
	}
	reply(w, out)
}

// status says how the node is; each part is left out when it cannot be had.
func (n *node) status(ctx context.Context) wire.Status {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	v, chain := n.store.Head()
	leader, leads := n.store.Leader()
	out := wire.Status{ID: n.cfg.id, Applied: v, Chain: hex.EncodeToString(chain[:]), Leader: leader.ID, Leads: leads, Terms: int(n.terms.Load())}
	if err := n.store.Healthy(ctx); err != nil {
		out.Trouble = err.Error()
	}
	if err := n.store.Writable(); err != nil {
		out.ReadOnly = err.Error()
	}
	if out.Trouble != "" {
		return out
	}
	if members, err := n.store.Members(ctx); err == nil {
		out.Members = list(members)
	}
	_ = n.store.View(ctx, store.Local, func(s store.Snapshot) (err error) {
		out.Logs, err = trees(s, []string{"audit", "tx"})
		return err
	})
	return out
}

func list(members []consensus.Member) []wire.Member {
	out := make([]wire.Member, 0, len(members))
	for _, m := range members {
		out = append(out, wire.Member{ID: m.ID, Address: m.Address, Voter: m.Voter, Leader: m.Leader, Healthy: m.Healthy, Applied: m.Applied, Note: m.Note})
	}
	slices.SortFunc(out, func(a, b wire.Member) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// stage writes everything into a file, as for a node that fell behind, and
// removes it.
func (n *node) stage() error {
	f, err := os.CreateTemp(n.cfg.dir, "stage-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = n.store.Stage(context.Background(), f)
	return errors.Join(err, f.Close())
}

// admin changes the cluster.
func (n *node) admin(ctx context.Context, in wire.Admin) (struct{}, error) {
	var err error
	switch in.Do {
	case "add":
		err = n.store.AddNonvoter(ctx, consensus.Peer{ID: in.ID, Address: in.Address})
	case "remove":
		err = n.store.Remove(ctx, in.ID)
	case "transfer":
		err = n.store.Transfer(ctx, in.ID)
	case "stage":
		return struct{}{}, n.stage()
	case "finalise":
		_, _, err = n.store.Finalise(ctx)
	case "readdress":
		err = n.store.Readdress(ctx, consensus.Peer{ID: in.ID, Address: in.Address})
	default:
		err = fmt.Errorf("%w: %q is nothing that can be done", store.ErrInvalid, in.Do)
	}
	return struct{}{}, err
}
