package guard

import (
	"context"
	"errors"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/budget"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/schema"
)

// open holds an entry for each act that was begun and not finished, ordered by
// when it must have ended: seconds since 1970, the intent's id.
const open store.Space = "S/guard-open/"

// sweepEvery is how often Run looks for acts that nobody finished; sweepGrace is
// how long after its deadline an act is given, for its outcome may be on its way.
const (
	sweepEvery = 10 * time.Second
	sweepGrace = time.Minute
	cleanEvery = time.Hour // what was done for idempotency keys is looked through
)

// openAct is what the sweeper needs to settle an act without its process.
type openAct struct {
	V        uint        `cbor:"v"`
	Node     string      `cbor:"node"`
	Boot     string      `cbor:"boot"`
	Actor    []actor     `cbor:"actor"` // who acted, then on whose behalf, …
	Action   string      `cbor:"action"`
	Type     string      `cbor:"type"`
	Resource string      `cbor:"resource"`
	Run      string      `cbor:"run,omitempty"`
	UseCase  string      `cbor:"use_case,omitempty"`
	Hold     budget.Hold `cbor:"hold"`
}

type actor struct {
	Kind auth.Kind `cbor:"kind"`
	ID   string    `cbor:"id"`
}

// leaveOpen adds the entry for the sweeper and returns its key.
func (g *Guard) leaveOpen(tx *store.Tx, p *Permit) store.Key {
	req := p.request
	act := openAct{
		V: 1, Node: g.node, Boot: g.boot, Action: string(req.Action), Type: req.Resource.Type, Resource: req.Resource.ID,
		Run: req.Run, UseCase: req.UseCase, Hold: p.hold,
	}
	for who := &req.Principal; who != nil; who = who.OnBehalfOf {
		act.Actor = append(act.Actor, actor{who.Kind, who.ID})
	}
	deadline := g.now().Add(within(req)).Unix() + 1
	key := open.Key(store.Number(uint64(deadline)), p.id)
	tx.Put(key, schema.MustEncode(act))
	return key
}

// Run settles acts that nobody finished as in doubt, at what was set aside for
// them: at once those that an earlier process of this node left, and, on the node
// that leads, others when their time is over. What a living process of any node
// is still at is left alone. It returns when the context ends.
func (g *Guard) Run(ctx context.Context) error {
	own := false // what this node left is settled
	var cleaned time.Time
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		var err error
		if !own {
			err = g.sweepOwn(ctx)
			own = err == nil
		}
		if err == nil && g.leads() {
			err = g.Sweep(ctx)
			if err == nil && time.Since(cleaned) > cleanEvery {
				err = g.cleanOnces(ctx)
				cleaned = time.Now()
			}
		}
		if err != nil && ctx.Err() == nil {
			g.logger.Warn("Acts that were left open could not be settled yet.", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sweepOwn settles what earlier processes of this node left: two processes are
// never one node.
func (g *Guard) sweepOwn(ctx context.Context) error {
	return g.sweep(ctx, func(_ time.Time, act openAct) bool { return act.Node == g.node && act.Boot != g.boot })
}

// Sweep settles, once, the acts whose time is over.
func (g *Guard) Sweep(ctx context.Context) error {
	last := g.now().Add(-sweepGrace)
	return g.sweep(ctx, func(deadline time.Time, _ openAct) bool { return deadline.Before(last) })
}

// left is an open act and its entry.
type left struct {
	item store.Item
	id   string
	act  openAct
}

func (g *Guard) sweep(ctx context.Context, over func(deadline time.Time, act openAct) bool) error {
	var found []left
	err := g.store.View(ctx, store.Local, func(s store.Snapshot) error {
		for item, err := range s.Scan(open.Prefix(), "") {
			if err != nil {
				return err
			}
			l, deadline, err := parseOpen(item)
			if err != nil {
				g.logger.Error("The entry of an open act cannot be read.", "key", string(item.Key), "error", err)
				continue
			}
			if over(deadline, l.act) {
				found = append(found, l)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, l := range found {
		if err := g.settleLeft(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

func parseOpen(item store.Item) (left, time.Time, error) {
	parts, ok := open.Parts(item.Key)
	if !ok || len(parts) != 2 {
		return left{}, time.Time{}, errors.New("its key is not one of an open act")
	}
	seconds, ok := store.ParseNumber(parts[0])
	if !ok {
		return left{}, time.Time{}, errors.New("its deadline is not a number")
	}
	l := left{item: item, id: parts[1]}
	if err := cbor.Unmarshal(item.Value, &l.act); err != nil {
		return left{}, time.Time{}, err
	}
	return l, time.Unix(int64(seconds), 0), nil
}

// settleLeft writes the outcome that nobody wrote. When somebody does at the same
// moment, theirs stands.
func (g *Guard) settleLeft(ctx context.Context, l left) error {
	tx := store.NewTx()
	tx.Check(l.item.Key, l.item.Version)
	tx.Delete(l.item.Key)
	rec := audit.Record{
		Kind: audit.Outcome, Intent: l.id, Actor: actorOf(l.act.Actor), Action: auth.Action(l.act.Action),
		Resource: audit.Resource{Type: l.act.Type, ID: l.act.Resource}, Run: l.act.Run, UseCase: l.act.UseCase, Node: g.node,
		Status: StatusInDoubt, Error: "nobody reported how it ended", CostNanoUSD: l.act.Hold.Amount,
	}
	if err := audit.Append(tx, rec); err != nil {
		return err
	}
	if err := g.ledger.Settle(tx, l.act.Hold, l.act.Hold.Amount, nil); err != nil {
		return err
	}
	_, err := g.store.Apply(ctx, tx)
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

func actorOf(chain []actor) audit.Actor {
	var out audit.Actor
	for i := len(chain) - 1; i >= 0; i-- {
		a := audit.Actor{Kind: chain[i].Kind, ID: chain[i].ID}
		if i < len(chain)-1 {
			behind := out
			a.OnBehalfOf = &behind
		}
		out = a
	}
	return out
}
