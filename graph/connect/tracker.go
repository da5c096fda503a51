package connect

import (
	"context"
	"iter"
	"strings"
	"sync"
	"time"
)

// notifyEvery bounds how often watchers hear of counters; stages and the end are
// told at once.
const notifyEvery = 100 * time.Millisecond

// tracker is one source's progress and those who watch it.
type tracker struct {
	now func() time.Time

	mu      sync.Mutex // guards all below
	state   Progress
	changed chan struct{} // closed and replaced when watchers should look
	told    time.Time
}

func newTracker(now func() time.Time, last Progress) *tracker {
	return &tracker{now: now, state: last, changed: make(chan struct{})}
}

func (t *tracker) update(force bool, f func(p *Progress)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.state)
	now := t.now()
	if force || now.Sub(t.told) >= notifyEvery {
		t.told = now
		close(t.changed)
		t.changed = make(chan struct{})
	}
}

func (t *tracker) begin(job string) {
	t.update(true, func(p *Progress) {
		*p = Progress{V: progressV, Job: job, Running: true, Stage: "waiting", Started: t.now().UTC()}
	})
}

// ended is the progress as it is to be once the job has ended; nobody is told.
func (t *tracker) ended(err error) Progress {
	p, _ := t.get()
	p.Running, p.Finished, p.Error = false, t.now().UTC(), sentence(err)
	if err == nil {
		p.Stage, p.Done, p.Total = "done", 0, 0
	}
	return p
}

func (t *tracker) stage(name string, total int64) {
	t.update(true, func(p *Progress) { p.Stage, p.Done, p.Total = name, 0, total })
}

func (t *tracker) done(n int64) { t.update(false, func(p *Progress) { p.Done += n }) }

func (t *tracker) body() { t.update(false, func(p *Progress) { p.Bodies++ }) }

func (t *tracker) record(claims int64) {
	t.update(false, func(p *Progress) { p.Records, p.Claims = p.Records+1, claims })
}

func (t *tracker) skip(what, reason string) {
	t.update(false, func(p *Progress) {
		p.Skipped++
		if len(p.Skips) < MaxSkips {
			p.Skips = append(p.Skips, Skip{shortened(what), shortened(reason)})
		}
	})
}

// get returns the progress, and a channel that is closed when it has changed.
func (t *tracker) get() (Progress, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.state
	p.Skips = append([]Skip(nil), p.Skips...)
	return p, t.changed
}

// watch yields the progress as it is and then as it changes, until yield stops
// or the context ends.
func (t *tracker) watch(ctx context.Context) iter.Seq2[Progress, error] {
	return func(yield func(Progress, error) bool) {
		tick := time.NewTicker(notifyEvery)
		defer tick.Stop()
		for {
			p, changed := t.get()
			if !yield(p, nil) {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				yield(Progress{}, ctx.Err())
				return
			}
			// Not more often than the pages can draw.
			select {
			case <-tick.C:
			case <-ctx.Done():
				yield(Progress{}, ctx.Err())
				return
			}
		}
	}
}

// shortened keeps a reason short enough for Progress to be one value.
func shortened(s string) string {
	const most = 250
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
