package budget

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloister-os/cloister/store"
)

const (
	sums  store.Space = "S/spend/"    // dimension, id, day, what → counter
	names store.Space = "S/spend-of/" // dimension, id → nothing: which counters there are
)

// What is counted beside the units of usage.
const (
	sumCost  = "cost_nano_usd"
	sumCalls = "calls"
)

// MaxDays bounds the range of one question for totals.
const MaxDays = 400

// maxKnown bounds what the ledger remembers of names it has written.
const maxKnown = 10_000

// Total is what one agent, use case, person, model or run cost in a range of days.
type Total struct {
	ID        string
	Cost      NanoUSD
	Calls     int64
	TokensIn  int64
	TokensOut int64
}

// count adds the totals of an act that cost something or used tokens. Acts that
// did neither are on the audit record only.
func (l *Ledger) count(tx *store.Tx, by Attribution, cost NanoUSD, usage map[string]int64) {
	in, out := usage[TokensIn], usage[TokensOut]
	if cost == 0 && in == 0 && out == 0 {
		return
	}
	day := Day.begins(l.now())
	for _, s := range by.shares() {
		l.name(tx, s)
		add := func(what string, n int64) {
			if n != 0 {
				tx.Add(sums.Key(string(s.dimension), s.id, day, what), n, store.NoLimit, 0)
			}
		}
		add(sumCost, cost)
		add(sumCalls, 1)
		add(TokensIn, in)
		add(TokensOut, out)
	}
}

// name makes the id listable. A counter cannot be scanned for.
func (l *Ledger) name(tx *store.Tx, s share) {
	key := names.Key(string(s.dimension), s.id)
	l.mu.RLock()
	known := l.known[key]
	l.mu.RUnlock()
	if known {
		return
	}
	tx.Put(key, nil)
	tx.After(func(_ store.Result, err error) {
		if err != nil {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.known) >= maxKnown {
			clear(l.known)
		}
		l.known[key] = true
	})
}

// Totals adds up a dimension over the days from and to, both included, in UTC,
// most expensive first, at most limit of them.
func (l *Ledger) Totals(ctx context.Context, d Dimension, from, to time.Time, limit int) ([]Total, error) {
	days, err := daysBetween(from, to)
	if err != nil {
		return nil, err
	}
	var out []Total
	err = l.store.View(ctx, store.Local, func(s store.Snapshot) error {
		for item, err := range s.Scan(names.Prefix(string(d)), "") {
			if err != nil {
				return err
			}
			parts, ok := names.Parts(item.Key)
			if !ok || len(parts) != 2 {
				continue
			}
			t, err := sumDays(s, d, parts[1], days)
			if err != nil {
				return err
			}
			if t.Calls > 0 {
				out = append(out, t)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("add up the cost by %s: %w", d, err)
	}
	slices.SortFunc(out, func(a, b Total) int {
		if a.Cost != b.Cost {
			return cmp.Compare(b.Cost, a.Cost)
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out[:min(len(out), max(limit, 0))], nil
}

// Of is the total of one id over the days from and to.
func (l *Ledger) Of(ctx context.Context, d Dimension, id string, from, to time.Time) (Total, error) {
	days, err := daysBetween(from, to)
	if err != nil {
		return Total{}, err
	}
	var t Total
	err = l.store.View(ctx, store.Local, func(s store.Snapshot) error {
		t, err = sumDays(s, d, id, days)
		return err
	})
	return t, err
}

func daysBetween(from, to time.Time) ([]string, error) {
	from, to = from.UTC().Truncate(24*time.Hour), to.UTC().Truncate(24*time.Hour)
	n := int(to.Sub(from)/(24*time.Hour)) + 1
	if n < 1 || n > MaxDays {
		return nil, fmt.Errorf("%w: ask for 1 to %d days", store.ErrInvalid, MaxDays)
	}
	days := make([]string, n)
	for i := range days {
		days[i] = Day.begins(from.AddDate(0, 0, i))
	}
	return days, nil
}

func sumDays(s store.Snapshot, d Dimension, id string, days []string) (Total, error) {
	t := Total{ID: id}
	for _, day := range days {
		for what, into := range map[string]*int64{sumCost: &t.Cost, sumCalls: &t.Calls, TokensIn: &t.TokensIn, TokensOut: &t.TokensOut} {
			n, err := s.Sum(sums.Key(string(d), id, day, what), 0)
			if err != nil {
				return Total{}, err
			}
			*into += n
		}
	}
	return t, nil
}

// spent is what a limit's period has cost so far.
func (l *Ledger) spent(ctx context.Context, limit Limit) (NanoUSD, error) {
	now := l.now().UTC()
	from := now
	switch limit.Period {
	case Month:
		from = now.AddDate(0, 0, 1-now.Day())
	case ForEver:
		from = now.AddDate(0, 0, 1-MaxDays)
	}
	t, err := l.Of(ctx, limit.Dimension, limit.ID, from, now)
	return t.Cost, err
}
