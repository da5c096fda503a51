package budget

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/schema"
)

const (
	limits store.Space = "H/budget-limit/" // dimension, id, period → storedLimit
	held   store.Space = "S/budget-spent/" // dimension, id, period, its beginning → counter
	// limitsChanged is one key, written with every change: its version is that of
	// the newest one.
	limitsChanged store.Space = "S/budget-limits-changed/"
)

// Dimension is one way to attribute cost.
type Dimension string

// The dimensions. Everything adds up what all of them share; its id is "all".
const (
	Everything Dimension = "everything"
	ByAgent    Dimension = "agent"
	ByUseCase  Dimension = "use_case"
	ByPerson   Dimension = "person" // a person, a key or the node: whoever stands behind the act
	ByModel    Dimension = "model"
	ByRun      Dimension = "run"
)

// Dimensions lists every dimension.
func Dimensions() []Dimension {
	return []Dimension{Everything, ByAgent, ByUseCase, ByPerson, ByModel, ByRun}
}

// Attribution says whom and what a cost is for. Empty ones do not apply.
type Attribution struct {
	Agent   string `cbor:"agent,omitempty"`
	UseCase string `cbor:"use_case,omitempty"`
	Person  string `cbor:"person,omitempty"`
	Model   string `cbor:"model,omitempty"`
	Run     string `cbor:"run,omitempty"`
}

// share is one dimension of an attribution.
type share struct {
	dimension Dimension
	id        string
}

func (a Attribution) shares() []share {
	all := []share{{Everything, "all"}, {ByAgent, a.Agent}, {ByUseCase, a.UseCase}, {ByPerson, a.Person}, {ByModel, a.Model}, {ByRun, a.Run}}
	return slices.DeleteFunc(all, func(s share) bool { return s.id == "" })
}

// Period is how long a limit counts before it begins anew, in UTC.
type Period string

// The periods.
const (
	Day     Period = "day"
	Month   Period = "month"
	ForEver Period = "for-ever"
)

// begins names the period that the time is in.
func (p Period) begins(t time.Time) string {
	switch p {
	case Day:
		return t.UTC().Format("2006-01-02")
	case Month:
		return t.UTC().Format("2006-01")
	}
	return ""
}

// Limit is what may be spent at most in a period.
type Limit struct {
	Dimension Dimension
	ID        string
	Period    Period
	Amount    NanoUSD
}

func (l Limit) key() store.Key { return limits.Key(string(l.Dimension), l.ID, string(l.Period)) }

func (l Limit) counter(t time.Time) store.Key {
	return held.Key(string(l.Dimension), l.ID, string(l.Period), l.Period.begins(t))
}

func (l Limit) valid() error {
	switch {
	case !slices.Contains(Dimensions(), l.Dimension) || l.ID == "":
		return fmt.Errorf("%w: a limit is by one of %v and names an id", store.ErrInvalid, Dimensions())
	case l.Period != Day && l.Period != Month && l.Period != ForEver:
		return fmt.Errorf("%w: a limit is per day, month or for-ever", store.ErrInvalid)
	case l.Amount < 0:
		return fmt.Errorf("%w: a limit is not negative", store.ErrInvalid)
	}
	return nil
}

type storedLimit struct {
	V      uint  `cbor:"v"`
	Amount int64 `cbor:"amount"`
}

// Ledger keeps limits and totals. It is safe for concurrent use.
type Ledger struct {
	store  store.Store
	logger *slog.Logger
	now    func() time.Time

	mu      sync.RWMutex // guards all below
	limits  map[share][]dated
	version store.Version // the limits were read at this version
	watched store.Version // and all changes up to this one have come
	moved   chan struct{} // closed and replaced when watched moves
	follows bool          // Run is at work
	known   map[store.Key]bool
}

// dated is a limit and when it was set; a removed one is kept until it is old.
type dated struct {
	Limit
	version store.Version
	removed bool
}

// NewLedger reads the limits. Call Run to follow those that other nodes set. now
// is time.Now when nil.
func NewLedger(ctx context.Context, st store.Store, logger *slog.Logger, now func() time.Time) (*Ledger, error) {
	if logger == nil {
		logger = slog.Default()
	}
	if now == nil {
		now = time.Now
	}
	l := &Ledger{store: st, logger: logger, now: now, limits: map[share][]dated{}, known: map[store.Key]bool{}, moved: make(chan struct{})}
	if err := l.reload(ctx); err != nil {
		return nil, fmt.Errorf("read the budget limits: %w", err)
	}
	return l, nil
}

// Hold is money set aside for one act, in the period in which it was set aside.
type Hold struct {
	Amount   NanoUSD     `cbor:"amount"`
	Counters []store.Key `cbor:"counters"`
	For      Attribution `cbor:"for"`
}

// Reserve adds to the transaction what makes it fail with store.ErrLimit when
// amount would pass a limit of anyone it is for. The hold must be settled.
func (l *Ledger) Reserve(tx *store.Tx, by Attribution, amount NanoUSD) (Hold, error) {
	h := Hold{Amount: amount, For: by}
	if amount < 0 {
		return h, fmt.Errorf("%w: a reservation of %d nano-dollars", store.ErrInvalid, amount)
	}
	now := l.now()
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, s := range by.shares() {
		for _, limit := range l.limits[s] {
			if limit.removed {
				continue
			}
			counter := limit.counter(now)
			tx.Add(counter, amount, limit.Amount, 0)
			h.Counters = append(h.Counters, counter)
		}
	}
	return h, tx.Err()
}

// Settle adds to the transaction the difference between what was set aside and
// what it cost, and the totals. A cost above the hold is counted in full and
// logged as a warning: whoever reserved set aside too little.
func (l *Ledger) Settle(tx *store.Tx, h Hold, cost NanoUSD, usage map[string]int64) error {
	if cost < 0 {
		return fmt.Errorf("%w: a cost of %d nano-dollars", store.ErrInvalid, cost)
	}
	if cost > h.Amount && len(h.Counters) > 0 {
		l.logger.Warn("An act cost more than was set aside for it.", "reserved_nano_usd", h.Amount, "cost_nano_usd", cost, "use_case", h.For.UseCase, "model", h.For.Model)
	}
	for _, counter := range h.Counters {
		if cost != h.Amount {
			tx.Add(counter, cost-h.Amount, store.NoLimit, 0)
		}
	}
	l.count(tx, h.For, cost, usage)
	return tx.Err()
}

// SetLimit adds a limit to the transaction, which must be applied. What the
// period has cost so far counts against it.
func (l *Ledger) SetLimit(ctx context.Context, tx *store.Tx, limit Limit) error {
	if err := limit.valid(); err != nil {
		return err
	}
	l.mu.RLock()
	exists := slices.ContainsFunc(l.limits[share{limit.Dimension, limit.ID}], func(d dated) bool { return d.Period == limit.Period })
	l.mu.RUnlock()
	if !exists {
		spent, err := l.spent(ctx, limit)
		if err != nil {
			return err
		}
		tx.Check(limit.key(), 0) // what was spent must not be counted by two
		tx.Add(limit.counter(l.now()), spent, store.NoLimit, 0)
	}
	tx.Put(limitsChanged.Key(), nil)
	tx.Put(limit.key(), schema.MustEncode(storedLimit{V: 1, Amount: limit.Amount}))
	l.follow(tx, limit, false)
	return tx.Err()
}

// RemoveLimit adds the removal of a limit to the transaction. Its counter goes on
// from where it stood if the limit is set again in the same period.
func (l *Ledger) RemoveLimit(tx *store.Tx, limit Limit) error {
	tx.Delete(limit.key())
	tx.Put(limitsChanged.Key(), nil)
	l.follow(tx, limit, true)
	return tx.Err()
}

func (l *Ledger) follow(tx *store.Tx, limit Limit, removed bool) {
	tx.After(func(res store.Result, err error) {
		if err == nil {
			l.note(dated{limit, res.Version, removed})
		}
	})
}

// note takes a committed limit in, unless a newer one is known.
func (l *Ledger) note(d dated) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := share{d.Dimension, d.ID}
	list := l.limits[s]
	i := slices.IndexFunc(list, func(o dated) bool { return o.Period == d.Period })
	switch {
	case d.version < l.version:
	case i < 0:
		l.limits[s] = append(slices.Clone(list), d)
	case list[i].version <= d.version:
		list = slices.Clone(list)
		list[i] = d
		l.limits[s] = list
	}
}

// Limits lists the limits by dimension, id and period.
func (l *Ledger) Limits() []Limit {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var out []Limit
	for _, list := range l.limits {
		for _, d := range list {
			if !d.removed {
				out = append(out, d.Limit)
			}
		}
	}
	slices.SortFunc(out, func(a, b Limit) int { return strings.Compare(string(a.key()), string(b.key())) })
	return out
}

// Run follows the limits until the context ends. It must run on every node.
func (l *Ledger) Run(ctx context.Context) error {
	l.following(true)
	defer l.following(false)
	for {
		err := l.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, store.ErrCompacted) {
			return fmt.Errorf("follow the budget limits: %w", err)
		}
		if err := l.reload(ctx); err != nil {
			return fmt.Errorf("read the budget limits: %w", err)
		}
	}
}

func (l *Ledger) watch(ctx context.Context) error {
	l.mu.RLock()
	from := l.version
	l.mu.RUnlock()
	for change, err := range l.store.Watch(ctx, limits.Prefix(), from) {
		if err != nil {
			return err
		}
		for _, w := range change.Writes {
			limit, ok := parseLimit(w.Key, w.Value, w.Deleted)
			if !ok {
				l.logger.Error("A stored budget limit cannot be read and is not enforced.", "key", string(w.Key))
				continue
			}
			l.note(dated{limit, change.Version, w.Deleted})
		}
		l.mu.Lock()
		l.moveTo(change.Version)
		l.mu.Unlock()
	}
	return store.ErrClosed
}

func (l *Ledger) following(is bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.follows = is
}

// moveTo notes that all changes up to a version are known; mu is held.
func (l *Ledger) moveTo(v store.Version) {
	l.watched = max(l.watched, v)
	close(l.moved)
	l.moved = make(chan struct{})
}

// Changed is the version of the newest change of any limit in the snapshot.
func (l *Ledger) Changed(s store.Snapshot) (store.Version, error) {
	item, err := s.Get(limitsChanged.Key())
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	return item.Version, err
}

// CatchUp returns once every change up to the version counts here.
func (l *Ledger) CatchUp(ctx context.Context, v store.Version) error {
	for {
		l.mu.RLock()
		reached, follows, moved := l.watched, l.follows, l.moved
		l.mu.RUnlock()
		if reached >= v {
			return nil
		}
		if !follows {
			if err := l.reload(ctx); err != nil {
				return fmt.Errorf("read the budget limits: %w", err)
			}
			continue
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *Ledger) reload(ctx context.Context) error {
	found := map[share][]dated{}
	var version store.Version
	// Local is enough: see CatchUp.
	err := l.store.View(ctx, store.Local, func(s store.Snapshot) error {
		version = s.Version()
		for item, err := range s.Scan(limits.Prefix(), "") {
			if err != nil {
				return err
			}
			limit, ok := parseLimit(item.Key, item.Value, false)
			if !ok {
				return fmt.Errorf("the limit at key %q cannot be read", item.Key)
			}
			of := share{limit.Dimension, limit.ID}
			found[of] = append(found[of], dated{limit, item.Version, false})
		}
		return nil
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for of, list := range l.limits { // committed here while the store was read
		for _, d := range list {
			if d.version > version {
				found[of] = append(slices.DeleteFunc(found[of], func(o dated) bool { return o.Period == d.Period }), d)
			}
		}
	}
	l.limits, l.version = found, version
	l.moveTo(version)
	return nil
}

func parseLimit(key store.Key, value []byte, deleted bool) (Limit, bool) {
	parts, ok := limits.Parts(key)
	if !ok || len(parts) != 3 {
		return Limit{}, false
	}
	limit := Limit{Dimension: Dimension(parts[0]), ID: parts[1], Period: Period(parts[2])}
	if deleted {
		return limit, true
	}
	var v storedLimit
	if cbor.Unmarshal(value, &v) != nil {
		return Limit{}, false
	}
	limit.Amount = v.Amount
	return limit, limit.valid() == nil
}
