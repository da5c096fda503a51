package audit

import (
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
)

// Bounds of a page.
const (
	DefaultPage = 50
	MaxPage     = 1000
	maxLooked   = 50_000 // records read for one page, whatever the filter
	blockLeaves = 256    // records read at once going backwards
)

// Filter chooses records. Zero fields do not restrict.
type Filter struct {
	From     uint64 // the first sequence to consider
	Before   uint64 // the first sequence not to consider; 0 = none
	Oldest   bool   // oldest first; otherwise newest first
	Limit    int    // 0 = DefaultPage, at most MaxPage
	Actor    string // the actor's id, or of whom it acts for
	Action   auth.Action
	Kind     Kind
	Run      string
	Resource string    // "type:id", or "type"
	Decision string    // "allow" or "deny"
	Status   string    // of an outcome: "ok", "failed", "in-doubt"
	Since    time.Time // leader time, inclusive
	Until    time.Time // leader time, exclusive
}

// Page is one page of records.
type Page struct {
	Entries []Entry
	Size    uint64 // records in the whole log
	More    bool   // there may be more: ask again with the Filter that Next gives
	Next    uint64 // where the next page begins
}

// Following is the filter for the page after p.
func (f Filter) Following(p Page) Filter {
	if f.Oldest {
		f.From = p.Next
	} else {
		f.Before = p.Next
	}
	return f
}

// List returns a page of the records that match. A page reads a bounded number
// of records: with a narrow filter it may hold few, or none, and say More.
func (l *Log) List(ctx context.Context, f Filter) (Page, error) {
	if f.Limit <= 0 {
		f.Limit = DefaultPage
	}
	f.Limit = min(f.Limit, MaxPage)
	var page Page
	err := l.store.View(ctx, store.Fresh, func(s store.Snapshot) (err error) {
		page, err = f.page(s.Log(LogName))
		return err
	})
	if err != nil {
		return Page{}, fmt.Errorf("read the audit log: %w", err)
	}
	return page, nil
}

// Entry returns one record; store.ErrNotFound when there is none.
func (l *Log) Entry(ctx context.Context, seq uint64) (Entry, error) {
	var e Entry
	err := l.store.View(ctx, store.Fresh, func(s store.Snapshot) error {
		leaf, err := s.Log(LogName).Leaf(seq)
		if err != nil {
			return err
		}
		e, err = entry(leaf)
		return err
	})
	return e, err
}

func (f Filter) page(log store.Log) (Page, error) {
	from, until, err := bounds(log, f.From, f.Before, f.Since, f.Until)
	if err != nil {
		return Page{}, err
	}
	p := Page{Size: log.Size()}
	if f.Oldest {
		p.Next = from
		return p, f.forward(log, &p, until)
	}
	p.Next = until
	return p, f.backward(log, &p, from)
}

// bounds is the range of sequences [from, until) that the sequence and time
// limits leave. Leader time never goes back, so a time is found by bisection.
func bounds(log store.Log, from, before uint64, since, until time.Time) (uint64, uint64, error) {
	end := log.Size()
	if before > 0 {
		end = min(end, before)
	}
	if !since.IsZero() {
		n, err := firstAt(log, since)
		if err != nil {
			return 0, 0, err
		}
		from = max(from, n)
	}
	if !until.IsZero() {
		n, err := firstAt(log, until)
		if err != nil {
			return 0, 0, err
		}
		end = min(end, n)
	}
	return min(from, end), end, nil
}

// firstAt is the first sequence whose time is not before t.
func firstAt(log store.Log, t time.Time) (uint64, error) {
	var failed error
	n := sort.Search(int(log.Size()), func(i int) bool {
		leaf, err := log.Leaf(uint64(i))
		if err != nil {
			failed = err
			return true
		}
		return !leaf.Time.Before(t)
	})
	return uint64(n), failed
}

func (f Filter) forward(log store.Log, p *Page, until uint64) error {
	stop := min(until, p.Next+maxLooked)
	if p.Next < stop {
		for leaf, err := range log.Leaves(p.Next) {
			if err != nil {
				return err
			}
			if leaf.Seq >= stop || len(p.Entries) == f.Limit {
				break
			}
			if err := f.take(p, leaf); err != nil {
				return err
			}
			p.Next = leaf.Seq + 1
		}
	}
	p.More = p.Next < until
	return nil
}

func (f Filter) backward(log store.Log, p *Page, from uint64) error {
	looked := uint64(0)
	for p.Next > from && looked < maxLooked && len(p.Entries) < f.Limit {
		first := max(from, p.Next-min(p.Next, blockLeaves))
		block := make([]store.Leaf, 0, blockLeaves)
		for leaf, err := range log.Leaves(first) {
			if err != nil {
				return err
			}
			if leaf.Seq >= p.Next {
				break
			}
			block = append(block, leaf)
		}
		for i := len(block) - 1; i >= 0 && len(p.Entries) < f.Limit; i-- {
			if err := f.take(p, block[i]); err != nil {
				return err
			}
			p.Next = block[i].Seq
			looked++
		}
	}
	p.More = p.Next > from
	return nil
}

func (f Filter) take(p *Page, leaf store.Leaf) error {
	e, err := entry(leaf)
	if err == nil && f.matches(&e.Record) {
		p.Entries = append(p.Entries, e)
	}
	return err
}

func (f Filter) matches(r *Record) bool {
	return (f.Action == "" || r.Action == f.Action) &&
		(f.Kind == "" || r.Kind == f.Kind) &&
		(f.Run == "" || r.Run == f.Run) &&
		(f.Decision == "" || r.decision() == f.Decision) &&
		(f.Status == "" || r.Status == f.Status) &&
		(f.Resource == "" || r.Resource.Type == f.Resource || r.Resource.Type+":"+r.Resource.ID == f.Resource) &&
		(f.Actor == "" || r.Actor.is(f.Actor))
}

// decision is what was decided: a refusal says so by its kind.
func (r *Record) decision() string {
	if r.Kind == Refusal {
		return "deny"
	}
	return r.Decision
}

func (a *Actor) is(id string) bool {
	return a.ID == id || a.OnBehalfOf != nil && a.OnBehalfOf.is(id)
}

func entry(leaf store.Leaf) (Entry, error) {
	r, err := ParseRecord(leaf.Data)
	if err != nil {
		return Entry{}, fmt.Errorf("audit record %d: %w", leaf.Seq, err)
	}
	return Entry{Seq: leaf.Seq, Version: leaf.Version, Time: leaf.Time, Record: r, Leaf: leaf.Data}, nil
}
