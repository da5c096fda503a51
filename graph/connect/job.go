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

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/store"
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
		job, err = s.begin(src, p)
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

// begin starts a job in the background. When one is under way it began before
// now and may have missed what the caller wants seen, so another follows it; a
// scheduled sync is content with the one under way.
func (s *Service) begin(src graph.Source, p auth.Principal) (string, error) {
	st := s.state(src.Name, Progress{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ctx.Err(); err != nil {
		return "", store.ErrClosed
	}
	if st.job != "" {
		if st.next == nil {
			st.next = &ticket{rand.Text(), p}
		}
		return st.next.job, nil
	}
	ctx, cancel := context.WithCancel(s.ctx)
	st.job, st.cancel, st.ended = rand.Text(), cancel, make(chan struct{})
	st.tracker.begin(st.job)
	s.jobs.Add(1)
	go s.run(ctx, src, p, st)
	return st.job, nil
}

func (s *Service) run(ctx context.Context, src graph.Source, p auth.Principal, st *state) {
	defer s.jobs.Done()
	for more := true; more; {
		err := s.slots.Acquire(ctx, 1)
		if err == nil {
			err = s.fetch(ctx, src, p, st)
			s.slots.Release(1)
		}
		progress := st.tracker.ended(err)
		s.report(src, progress)
		s.keep(src.Name, progress)
		p, more = s.finish(ctx, st, progress)
	}
}

// finish ends a job, or goes over to the one that was asked for meanwhile.
func (s *Service) finish(ctx context.Context, st *state, progress Progress) (auth.Principal, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := st.next
	st.next = nil
	if next != nil && ctx.Err() == nil {
		st.job = next.job
		st.tracker.begin(next.job)
		return next.p, true
	}
	st.tracker.update(true, func(p *Progress) { *p = progress })
	st.cancel()
	st.job, st.tried = "", s.cfg.Now()
	close(st.ended)
	return auth.Principal{}, false
}

// fetch is one sync behind the guard.
func (s *Service) fetch(ctx context.Context, src graph.Source, p auth.Principal, st *state) error {
	return s.cfg.Door.Do(ctx, request(p, auth.SourceFetch, src, "sync"), func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		if err := s.still(ctx, src); err != nil {
			return outcome(err)
		}
		sink := &Sink{source: src.Name, store: s.cfg.Store, writer: graph.NewWriter(s.cfg.Store, s.cfg.Blobs, src.Name), tracker: st.tracker}
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

// keep puts the end of a sync on record. It is not worth failing for.
func (s *Service) keep(name string, p Progress) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), 10*time.Second)
	defer cancel()
	mode, err := progressMode()
	if err == nil {
		var b []byte
		if b, err = mode.Marshal(p); err == nil {
			tx := store.NewTx()
			tx.Put(spaceProgress.Key(name), b)
			_, err = s.cfg.Store.Apply(ctx, tx)
		}
	}
	if err != nil {
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
	p.Running = false
	return p, err
}

// Run syncs every source that is due, until the context ends, and finishes
// removals that were interrupted.
func (s *Service) Run(ctx context.Context) error {
	every := s.cfg.Every
	tick := time.NewTicker(min(max(every/10, 100*time.Millisecond), 10*time.Second))
	defer tick.Stop()
	for {
		if err := s.due(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("The sources could not be looked at; they will be again in a moment.", "error", err)
		}
		select {
		case <-tick.C:
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
			last, err := lastProgress(snap, src.Name)
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
		return errors.Join(s.halt(ctx, src.Name), s.sweep(ctx, src.Name))
	}
	if s.cfg.Every < 0 {
		return nil
	}
	st := s.state(src.Name, last)
	s.mu.Lock()
	due := st.job == "" && s.cfg.Now().Sub(st.tried) >= s.cfg.Every
	s.mu.Unlock()
	if !due {
		return nil
	}
	_, err := s.begin(src, s.cfg.Node)
	return err
}

// sentence is an error in one line.
func sentence(err error) string {
	if err == nil {
		return ""
	}
	if errors.Is(err, context.Canceled) {
		return "the sync was interrupted; the next one goes on from there"
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}
