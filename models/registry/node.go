package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/store"
)

const (
	standings store.Space = "S/model-node/"   // model name, node → Standing
	staged    store.Space = "S/model-staged/" // model name → Model: not in the registry yet
	hosts     store.Space = "S/model-host/"   // node → Host
)

// Stage is how far a node is with a model.
type Stage string

// The stages.
const (
	Ready   Stage = "ready"
	Pulling Stage = "pulling"
	Failed  Stage = "failed"
)

// Standing is how a node stands with a model.
type Standing struct {
	V      uint
	Stage  Stage
	Digest string // of the model that it is about
	For    uint64 // version of the entry that it is about, when it failed
	Done   int64  // bytes, while pulling
	Total  int64
	Why    string // one sentence, when it failed
}

// String is the standing in a few words.
func (s Standing) String() string {
	switch {
	case s.Stage == Pulling && s.Total > 0:
		return fmt.Sprintf("pulling %d %%", s.Done*100/s.Total)
	case s.Stage == Failed:
		return "failed: " + s.Why
	}
	return string(s.Stage)
}

// Host says whether a node wants the models of the house.
type Host struct {
	V     uint
	Local bool // false: it asks other nodes for inference
}

// SetStanding says how a node stands with a model; nil = not at all.
func (r *Registry) SetStanding(ctx context.Context, model, node string, s *Standing) error {
	tx := store.NewTx()
	key := standings.Key(model, node)
	if s == nil {
		tx.Delete(key)
	} else {
		s.V = 1
		data, err := encode(*s)
		if err != nil {
			return err
		}
		tx.Put(key, data)
	}
	_, err := r.store.Submit(ctx, tx, store.Bulk).Wait(ctx)
	return err
}

// Standings are those of a model, by node.
func (r *Registry) Standings(ctx context.Context, model string) (map[string]Standing, error) {
	out := map[string]Standing{}
	err := r.store.View(ctx, store.Local, func(s store.Snapshot) error {
		clear(out)
		for item, err := range s.Scan(standings.Prefix(model), "") {
			if err != nil {
				return err
			}
			parts, ok := standings.Parts(item.Key)
			var one Standing
			if err := cbor.Unmarshal(item.Value, &one); err != nil || !ok || len(parts) != 2 {
				return errors.Join(errors.New("a node's standing with a model cannot be read"), err)
			}
			out[parts[1]] = one
		}
		return nil
	})
	return out, err
}

// StandingOf lists the models that a node has a standing with.
func (r *Registry) StandingOf(ctx context.Context, node string) (models []string, err error) {
	err = r.store.View(ctx, store.Local, func(s store.Snapshot) error {
		models = nil
		for item, err := range s.Scan(standings.Prefix(), "") {
			if err != nil {
				return err
			}
			if parts, ok := standings.Parts(item.Key); ok && len(parts) == 2 && parts[1] == node {
				models = append(models, parts[0])
			}
		}
		return nil
	})
	return models, err
}

// SetHost says whether a node wants models.
func (r *Registry) SetHost(ctx context.Context, node string, h Host) error {
	h.V = 1
	data, err := encode(h)
	if err != nil {
		return err
	}
	tx := store.NewTx()
	tx.Put(hosts.Key(node), data)
	_, err = r.store.Submit(ctx, tx, store.Bulk).Wait(ctx)
	return err
}

// Hosts are the nodes that have said whether they want models.
func (r *Registry) Hosts(ctx context.Context) (map[string]Host, error) {
	out := map[string]Host{}
	err := r.store.View(ctx, store.Local, func(s store.Snapshot) error {
		clear(out)
		for item, err := range s.Scan(hosts.Prefix(), "") {
			if err != nil {
				return err
			}
			parts, ok := hosts.Parts(item.Key)
			var h Host
			if err := cbor.Unmarshal(item.Value, &h); err != nil || !ok || len(parts) != 1 {
				return errors.Join(errors.New("whether a node wants models cannot be read"), err)
			}
			out[parts[0]] = h
		}
		return nil
	})
	return out, err
}

// DropNode forgets a node that is no longer of the cluster.
func (r *Registry) DropNode(ctx context.Context, node string) error {
	list, err := r.StandingOf(ctx, node)
	if err != nil {
		return err
	}
	for _, model := range list {
		if err := r.SetStanding(ctx, model, node, nil); err != nil {
			return err
		}
	}
	tx := store.NewTx()
	tx.Delete(hosts.Key(node))
	_, err = r.store.Submit(ctx, tx, store.Bulk).Wait(ctx)
	return err
}

// Stage announces a model that is not in the registry yet, so that other nodes
// can take it, and returns the version of its entry; Unstage takes it back, or ends
// it once it is.
func (r *Registry) Stage(ctx context.Context, m Model) (store.Version, error) {
	m.V = 1
	data, err := encode(m)
	if err != nil {
		return 0, err
	}
	if len(data) > store.MaxValueBytes {
		return 0, models.Fail(models.ErrInvalid, "the description of model %s is too large to be kept", m.Name)
	}
	tx := store.NewTx()
	tx.Put(staged.Key(m.Name), data)
	res, err := r.store.Apply(ctx, tx)
	return res.Version, err
}

// Unstage undoes Stage.
func (r *Registry) Unstage(ctx context.Context, name string) error {
	tx := store.NewTx()
	tx.Delete(staged.Key(name))
	_, err := r.store.Apply(ctx, tx)
	return err
}

// Wanted lists the models that every node is to hold: those that are staged
// first, then the others, each name once.
func (r *Registry) Wanted(ctx context.Context) (list []Model, err error) {
	err = r.store.View(ctx, store.Local, func(s store.Snapshot) error {
		list = nil
		seen := map[string]bool{}
		for _, prefix := range []store.Key{staged.Prefix(), entries.Prefix()} {
			for item, err := range s.Scan(prefix, "") {
				if err != nil {
					return err
				}
				m, err := decodeModel(item)
				if err != nil {
					return err
				}
				m.Version = item.Version
				if !seen[m.Name] {
					seen[m.Name] = true
					list = append(list, m)
				}
			}
		}
		return nil
	})
	return list, err
}

// FollowModels calls f now and whenever the models or what is staged has changed,
// until the context ends.
func (r *Registry) FollowModels(ctx context.Context, f func()) error {
	changed := make(chan struct{}, 1)
	follow := func(prefix store.Key) {
		_ = r.follow(ctx, prefix, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	}
	go follow(entries.Prefix())
	go follow(staged.Prefix())
	for {
		select {
		case <-changed:
			f()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
