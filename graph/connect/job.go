package connect

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sync/errgroup"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/store"
	leasing "github.com/cloister-os/cloister/store/lease"
)

// spaceProgress holds how each source's last sync ended. It is state: the
// watermark is what history keeps.
const spaceProgress store.Space = "S/sync/"

const progressV = 1

// Sync begins a sync and returns its job's id, or that of the one under way.
func (s *Service) Sync(ctx context.Context, p auth.Principal, name string) (job string, err error) {
	src, err := s.source(ctx, name)
	if err != nil {
		return "", unseen(name, err)
	}
	err = s.cfg.Door.Do(ctx, request(p, auth.SourceManage, src, "sync"), func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		if err := permit.Covers(auth.SourceManage, graph.SourceResource(src)); err != nil {
			return guard.Outcome{Status: guard.StatusFailed}, err
		}
		if src.Removing {
			return outcome(fmt.Errorf("source %q: %w", name, ErrRemoved))
		}
		if s.here(src) {
			job, err = s.begin(src, p, false)
		} else {
			job, err = s.beginElsewhere(ctx, src, p)
		}
		return outcome(err)
	})
	return job, err
}

// Wait returns when the source has no sync under way, with how the last one ended.
func (s *Service) Wait(ctx context.Context, p auth.Principal, name string) (Progress, error) {
	for progress, err := range s.Progress(ctx, p, name) {
		if err != nil || !progress.Running {
			return progress, err
		}
	}
	return Progress{}, ctx.Err()
}

// beginElsewhere has the source's node sync it.
func (s *Service) beginElsewhere(ctx context.Context, src graph.Source, p auth.Principal) (string, error) {
	a, err := s.askNode(ctx, src.Node, ask{Source: src.Name, Who: whoIs(p)})
	if err != nil {
		return "", err
	}
	// Whoever waits for it must see that it has begun, however soon.
	st := s.state(src.Name, Progress{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.job == "" && st.progress().Job != a.Job {
		st.tracker.begin(a.Job)
	}
	return a.Job, nil
}

// begin starts a job in the background. When one is under way it began before
// now and may have missed what the caller wants seen, so another follows it; a
// sync that is only due is content with the one under way.
func (s *Service) begin(src graph.Source, p auth.Principal, due bool) (string, error) {
	st := s.state(src.Name, Progress{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ctx.Err(); err != nil {
		return "", store.ErrClosed
	}
	if st.job != "" {
		if st.next == nil {
			st.next = &ticket{job: rand.Text(), p: p}
		}
		return st.next.job, nil
	}
	ctx, cancel := context.WithCancel(s.ctx)
	st.job, st.cancel, st.ended = rand.Text(), cancel, make(chan struct{})
	st.tracker.begin(st.job)
	s.jobs.Add(1)
	go s.run(ctx, src, ticket{st.job, p, due}, st)
	return st.job, nil
}

func (s *Service) run(ctx context.Context, src graph.Source, t ticket, st *state) {
	defer s.jobs.Done()
	for more := true; more; {
		progress := s.runOne(ctx, src, t, st)
		t, more = s.finish(ctx, st, progress)
	}
}

// runOne is one job: it holds the source's lease while it works, and gives it
// back with how it ended.
func (s *Service) runOne(ctx context.Context, src graph.Source, t ticket, st *state) Progress {
	err := s.slots.Acquire(ctx, 1)
	var h *hold
	if err == nil {
		defer s.slots.Release(1)
		h, err = s.take(ctx, src.Name, t.job, t.due, false)
	}
	if h == nil {
		return s.notBegun(src, st, err)
	}
	err = s.fetch(h, src, t.p, st)
	if cause := context.Cause(h.ctx); errors.Is(cause, errTaken) {
		err = errTaken
	}
	progress := st.tracker.ended(err)
	s.report(src, progress)
	err = h.release(func(tx *store.Tx) error {
		b, err := encode(progress)
		tx.Put(spaceProgress.Key(src.Name), b)
		return err
	})
	if err != nil && !errors.Is(err, errTaken) {
		s.cfg.Logger.Warn("How a sync ended could not be put on record.", "source", src.Name, "error", err)
	}
	return progress
}

// notBegun is the progress of a job that never had the lease: the other node's,
// when one has it, for that sync is as good.
func (s *Service) notBegun(src graph.Source, st *state, why error) (progress Progress) {
	var held *errHeld
	if errors.As(why, &held) {
		err := s.cfg.Store.View(s.ctx, store.Local, func(snap store.Snapshot) (err error) {
			progress, err = s.standing(snap, src.Name)
			return err
		})
		if err == nil {
			return progress
		}
	}
	progress = st.tracker.ended(why)
	s.report(src, progress)
	s.keep(src.Name, progress)
	return progress
}

// finish ends a job, or goes over to the one that was asked for meanwhile.
func (s *Service) finish(ctx context.Context, st *state, progress Progress) (ticket, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := st.next
	st.next = nil
	if next != nil && ctx.Err() == nil {
		st.job = next.job
		st.tracker.begin(next.job)
		return *next, true
	}
	st.tracker.update(true, func(p *Progress) { *p = progress })
	st.cancel()
	st.job, st.tried = "", s.cfg.Now()
	close(st.ended)
	return ticket{}, false
}

// fetch is one sync behind the guard.
func (s *Service) fetch(h *hold, src graph.Source, p auth.Principal, st *state) error {
	return s.cfg.Door.Do(h.ctx, request(p, auth.SourceFetch, src, "sync"), func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		if err := s.still(ctx, src); err != nil {
			return outcome(err)
		}
		sink := &Sink{source: src.Name, store: s.cfg.Store, writer: graph.NewWriter(s.cfg.Store, s.cfg.Blobs, src.Name).Fence(fenceOf(src.Name), h.fenceAt), tracker: st.tracker}
		began := s.cfg.Now()
		err := s.scan(ctx, permit, src, sink)
		if err == nil {
			err = sink.writer.Finish(ctx, graph.Watermark{AsOfNs: began.UnixNano()})
		} else {
			s.settle(sink)
		}
		out, err := outcome(err)
		progress, _ := st.tracker.get()
		out.Usage = map[string]int64{"records": progress.Records, "claims": progress.Claims, "bodies": progress.Bodies}
		return out, err
	})
}

// still refuses a source that was removed since the job was begun. A removal says
// so in the store before it halts jobs, so none begins after it unseen.
func (s *Service) still(ctx context.Context, src graph.Source) error {
	now, err := s.source(ctx, src.Name)
	if err == nil && (now.Removing || now.AddedNs != src.AddedNs) {
		err = ErrRemoved
	}
	if errors.Is(err, store.ErrNotFound) {
		err = ErrRemoved
	}
	return err
}

// settle makes durable what a failed scan had read, so that the next one need
// not read it again; it changes nothing about the failure.
func (s *Service) settle(sink *Sink) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), 5*time.Second)
	defer cancel()
	if err := sink.writer.Flush(ctx); err != nil {
		s.cfg.Logger.Debug("A failed sync could not keep all it had read.", "source", sink.source, "error", err)
	}
}

// scan runs the connector; a panic in it (a damaged repository can upset a
// parser) is an error of this source and of no other.
func (s *Service) scan(ctx context.Context, permit *guard.Permit, src graph.Source, sink *Sink) (err error) {
	defer func() {
		if r := recover(); r != nil {
			s.cfg.Logger.Error("A connector panicked.", "source", src.Name, "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("source %q could not be read: its connector failed on what it found (%v)", src.Name, r)
		}
	}()
	connector := s.connectors[src.Kind]
	if connector == nil {
		return fmt.Errorf("there is no connector for a source of kind %q", src.Kind)
	}
	return connector.Scan(ctx, permit, src, sink)
}

func (s *Service) report(src graph.Source, p Progress) {
	log := s.cfg.Logger.With("source", src.Name, "kind", src.Kind, "records", p.Records, "claims", p.Claims,
		"bodies", p.Bodies, "skipped", p.Skipped, "took", p.Finished.Sub(p.Started).Round(time.Millisecond))
	if p.Error != "" {
		log.Warn("A sync failed; what was read is kept, nothing was removed.", "error", p.Error)
		return
	}
	log.Info("A sync completed.")
}

// keep puts the end of a sync that never had the lease on record, unless another
// has it. It is not worth failing for.
func (s *Service) keep(name string, p Progress) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), 10*time.Second)
	defer cancel()
	b, err := encode(p)
	if err == nil {
		tx := store.NewTx()
		tx.Check(spaceLease.Key(name), 0)
		tx.Put(spaceProgress.Key(name), b)
		_, err = leasing.Insist(ctx, s.cfg.Store, tx)
	}
	if err != nil && !errors.Is(err, store.ErrConflict) {
		s.cfg.Logger.Warn("How a sync ended could not be put on record.", "source", name, "error", err)
	}
}

func progressMode() (cbor.EncMode, error) {
	opts := cbor.CoreDetEncOptions()
	opts.Time = cbor.TimeRFC3339Nano
	return opts.EncMode()
}

func lastProgress(snap store.Snapshot, name string) (p Progress, err error) {
	item, err := snap.Get(spaceProgress.Key(name))
	if errors.Is(err, store.ErrNotFound) {
		return Progress{}, nil
	}
	if err == nil {
		err = cbor.Unmarshal(item.Value, &p)
	}
	return p, err
}

// standing is the last progress on record; it is running only while somebody
// holds the source's lease.
func (s *Service) standing(snap store.Snapshot, name string) (Progress, error) {
	p, err := lastProgress(snap, name)
	if err != nil || !p.Running {
		return p, err
	}
	item, err := snap.Get(spaceLease.Key(name))
	if errors.Is(err, store.ErrNotFound) {
		p.Running = false
		return p, nil
	}
	if l, dead := s.judge(name, item); err == nil && dead {
		p.Running, p.Error = false, "node "+l.Node+" stopped in the middle of the sync; the next one goes on from there"
	}
	return p, err
}

// Run syncs every source that is due, until the context ends, and finishes
// removals that were interrupted. It also follows what other nodes do, and does
// what they ask for.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var follow errgroup.Group
	for _, work := range []func(context.Context) error{s.schedule, s.serveAsks, s.mirror} {
		follow.Go(func() error {
			defer cancel()
			if err := work(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("follow the sources: %w", err)
			}
			return nil
		})
	}
	return follow.Wait()
}

func (s *Service) schedule(ctx context.Context) error {
	every := s.cfg.Every
	tick := time.NewTicker(min(max(every/10, 100*time.Millisecond), 10*time.Second))
	defer tick.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		if err := errors.Join(s.look(ctx), s.due(ctx)); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("The sources could not be looked at; they will be again in a moment.", "error", err)
		}
		select {
		case <-tick.C:
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Service) due(ctx context.Context) error {
	type entry struct {
		src  graph.Source
		last Progress
	}
	var all []entry
	err := s.cfg.Store.View(ctx, store.Local, func(snap store.Snapshot) error {
		sources, err := graph.AllSources(snap)
		for _, src := range sources {
			last, err := s.standing(snap, src.Name)
			if err != nil {
				return err
			}
			all = append(all, entry{src, last})
		}
		return err
	})
	for _, e := range all {
		err = errors.Join(err, s.dueOne(ctx, e.src, e.last))
	}
	return err
}

func (s *Service) dueOne(ctx context.Context, src graph.Source, last Progress) error {
	if src.Removing {
		return s.finishRemoval(ctx, src.Name)
	}
	if s.cfg.Every < 0 || !s.here(src) || src.Node == "" && !s.cfg.Leads() {
		return nil
	}
	st := s.state(src.Name, last)
	s.mu.Lock()
	due := st.job == "" && s.cfg.Now().Sub(st.tried) >= s.cfg.Every
	s.mu.Unlock()
	if !due {
		return nil
	}
	_, err := s.begin(src, s.cfg.Node, true)
	return err
}

// finishRemoval goes on with a removal that nobody is at.
func (s *Service) finishRemoval(ctx context.Context, name string) error {
	if err := s.halt(ctx, name); err != nil {
		return err
	}
	h, err := s.take(ctx, name, "remove "+rand.Text(), true, false)
	var held *errHeld
	switch {
	case errors.As(err, &held):
		return nil
	case err != nil:
		return err
	}
	return s.sweep(name, h)
}

// sentence is an error in one line.
func sentence(err error) string {
	if err == nil {
		return ""
	}
	if errors.Is(err, errTaken) || errors.Is(err, store.ErrConflict) {
		return errTaken.Error()
	}
	if errors.Is(err, context.Canceled) {
		return "the sync was interrupted; the next one goes on from there"
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}
