package policy

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/schema"
)

// Starter is the file of starter policies. Older programs cannot read them, so they
// are written only where the cluster works at store.FormatStarter. Once a release has
// them, a change reaches the clusters that there are only with a new format, and
// the file that was released is kept as the former one is.
//
//go:embed starter.cedar
var Starter string

// former is the file of the formats before. It tells which policies of an upgraded
// cluster nobody has touched, so it never changes.
//
//go:embed starter-2.cedar
var former string

// offer is the value of the seeded key.
type offer struct {
	V      uint `cbor:"v"`
	Format uint `cbor:"format,omitempty"` // whose starter policies were offered; 0 = those of a format before store.FormatStarter
}

func readOffer(get func(store.Key) (store.Item, error)) (o offer, err error) {
	item, err := get(seeded.Key())
	if err == nil {
		err = cbor.Unmarshal(item.Value, &o)
	}
	return o, err
}

func putOffer(tx *store.Tx) {
	tx.Put(seeded.Key(), schema.MustEncode(offer{V: 1, Format: store.FormatStarter}))
}

// Seed writes the starter policies if none were ever written: the installation is
// new. The same transaction has it begin at the newest format, so that no older
// program opens a cluster whose policies it cannot read. What an older program
// began is left to Amend.
func (p *Policies) Seed(ctx context.Context) error {
	// A node whose disk is full starts all the same once this was done.
	err := p.store.View(ctx, store.Local, func(s store.Snapshot) error {
		_, err := s.Get(seeded.Key())
		return err
	})
	if err == nil {
		return nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("look for the starter policies: %w", err)
	}
	texts, err := split(Starter)
	if err != nil {
		return fmt.Errorf("starter policies: %w", err)
	}
	tx := store.NewTx()
	tx.Check(seeded.Key(), 0)
	putOffer(tx)
	tx.Put(store.ClusterFormat, []byte(store.Number(store.Format)))
	for _, text := range texts {
		if _, err := p.Put(tx, text); err != nil {
			return fmt.Errorf("starter policies: %w", err)
		}
	}
	if _, err := p.store.Apply(ctx, tx); err != nil && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("write the starter policies: %w", err)
	}
	return nil
}

// Amended is what was done to the policies of a cluster that an older program
// began. The ids stand in the order of the starter file.
type Amended struct {
	Added    []string // had never been offered
	Replaced []string // were as the older program had written them
	Changed  []string // somebody had changed them, or had put one of that name: left alone
}

func (a Amended) nothing() bool { return len(a.Added)+len(a.Replaced)+len(a.Changed) == 0 }

var (
	errAmended = errors.New("the starter policies were offered")
	errWaits   = errors.New("the cluster is not finalised yet")
	errLockout = errors.New("nobody could change policies any more")
)

// amendEvery is how often a node looks whether the cluster was finalised, and
// amendAgain how long it waits after it failed to amend.
const (
	amendEvery = time.Second
	amendAgain = 10 * time.Second
)

// RunAmend amends the policies on the node that leads, as soon as the cluster is
// finalised, and returns when that was done. It must run on every node. The record
// joins the transaction.
func (p *Policies) RunAmend(ctx context.Context, leads func() bool, record func(*store.Tx, Amended) error) error {
	said := "" // the same trouble is told once
	for {
		wait, err := amendEvery, p.due(ctx)
		if err == nil && leads() {
			_, err = p.Amend(ctx, record)
		}
		switch {
		case errors.Is(err, errAmended) || ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, errWaits):
			wait = amendAgain
			if err.Error() != said {
				said = err.Error()
				p.logger.Warn("The starter policies of this program could not be added yet; it is tried again.", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// due says why there is nothing to amend now: errAmended or errWaits.
func (p *Policies) due(ctx context.Context) error {
	return p.store.View(ctx, store.Local, func(s store.Snapshot) error { return due(s.Get) })
}

func due(get func(store.Key) (store.Item, error)) error {
	o, err := readOffer(get)
	if errors.Is(err, store.ErrNotFound) {
		return errWaits // the node has not caught up with who began the cluster
	}
	if err != nil {
		return fmt.Errorf("which starter policies were offered: %w", err)
	}
	if o.Format >= store.FormatStarter {
		return errAmended
	}
	format, err := store.FormatOf(get)
	if err == nil && format < store.FormatStarter {
		err = errWaits
	}
	return err
}

// Amend gives a cluster that an older program began the starter policies of this
// one, once: those that were never offered are added, those that are as they were
// written are replaced, and those that somebody changed or removed are left alone.
// Before the cluster is finalised, and once it was done, it does nothing. It does
// nothing either, and says so, where nobody could change policies afterwards.
func (p *Policies) Amend(ctx context.Context, record func(*store.Tx, Amended) error) (Amended, error) {
	return p.amend(ctx, former, Starter, record)
}

func (p *Policies) amend(ctx context.Context, former, starter string, record func(*store.Tx, Amended) error) (Amended, error) {
	before, _, err := compileAll(former)
	if err != nil {
		return Amended{}, err
	}
	now, order, err := compileAll(starter)
	if err != nil {
		return Amended{}, err
	}
	var done Amended
	_, err = p.store.Update(ctx, func(u *store.Update) error {
		done = Amended{}
		if err := due(u.Get); err != nil {
			return err
		}
		for _, id := range order {
			if err := p.amendOne(u, before[id], now[id], &done); err != nil {
				return fmt.Errorf("starter policy %s: %w", id, err)
			}
		}
		if err := p.keepsChangeable(now, slices.Concat(done.Added, done.Replaced)); err != nil {
			return err
		}
		putOffer(u.Tx)
		if done.nothing() {
			return nil // what it is offered is there: a program between two formats wrote it
		}
		return record(u.Tx, done)
	})
	if errors.Is(err, errAmended) || errors.Is(err, errWaits) {
		return Amended{}, nil
	}
	if err != nil || done.nothing() {
		return Amended{}, err
	}
	p.logger.Info("The starter policies of this program were added; those that had been changed or removed were left alone.",
		"added", done.Added, "replaced", done.Replaced, "left_as_changed", done.Changed)
	return done, nil
}

// amendOne offers one starter policy; before is nil when it is a new one.
func (p *Policies) amendOne(u *store.Update, before, now *compiled, done *Amended) error {
	item, err := u.Get(policies.Key(now.ID))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	var have stored // what cannot be read stays empty, which is not what was offered
	if err == nil {
		_ = cbor.Unmarshal(item.Value, &have)
	}
	switch {
	case err != nil && before != nil: // somebody removed it
		return nil
	case err != nil:
		done.Added = append(done.Added, now.ID)
	case have.Text == now.Text:
		return nil
	case before == nil || have.Text != before.Text:
		if before == nil || before.Text != now.Text { // else there is nothing new to miss
			done.Changed = append(done.Changed, now.ID)
		}
		return nil
	default:
		done.Replaced = append(done.Replaced, now.ID)
	}
	_, err = p.Put(u.Tx, now.Text)
	return err
}

// keepsChangeable refuses an amendment that would take from everybody the right to
// change policies, and with it the way back.
func (p *Policies) keepsChangeable(now map[string]*compiled, ids []string) error {
	changes := make([]change, 0, len(ids))
	for _, id := range ids {
		changes = append(changes, change{id: id, policy: now[id], version: math.MaxInt64}) // after all there are
	}
	if set := p.now(); set.changeable() && !set.with(changes).changeable() {
		return errLockout
	}
	return nil
}

// changeable says whether some role may change policies.
func (s *set) changeable() bool {
	return slices.ContainsFunc(auth.Roles(), func(r auth.Role) bool {
		return s.decide(auth.Principal{Kind: auth.User, ID: "anybody", Roles: []auth.Role{r}}, auth.PolicyManage, auth.TheSystem, nil).Allow
	})
}

// compileAll reads a file of policies: by id, and the ids in order.
func compileAll(file string) (map[string]*compiled, []string, error) {
	texts, err := split(file)
	if err != nil {
		return nil, nil, fmt.Errorf("starter policies: %w", err)
	}
	byID, order := map[string]*compiled{}, []string{}
	for _, text := range texts {
		c, err := compile(text)
		if err != nil {
			return nil, nil, fmt.Errorf("starter policies: %w", err)
		}
		byID[c.ID], order = c, append(order, c.ID)
	}
	return byID, order, nil
}
