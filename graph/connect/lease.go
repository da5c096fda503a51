package connect

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/store"
	leasing "github.com/cloister-os/cloister/store/lease"
)

// A source is worked on by one job of all nodes at a time: the one that holds
// its lease. Whoever takes the lease writes the fence, which every transaction of
// a job checks: what a job that lost the lease still wants to write is refused.
// How long a lease lives, and for whom, package store/lease says.
const (
	spaceLease store.Space = "S/sync-lease/" // source → lease; there while a job is at work
	spaceFence store.Space = "S/sync-fence/" // source → nothing; its version is what counts

	leaseTTL  = 10 * time.Second
	beatEvery = time.Second // a holder tells its progress, and every third time renews
	lookEvery = 2 * time.Second
)

type lease struct {
	V    uint          `cbor:"v"`
	Node string        `cbor:"node"`
	Boot string        `cbor:"boot"`
	Job  string        `cbor:"job"`
	TTL  time.Duration `cbor:"ttl"`
}

const leaseV = 1

// errHeld says that another job is at the source.
type errHeld struct{ node string }

func (e *errHeld) Error() string { return "node " + e.node + " is at this source now" }

// errTaken ends a job whose source another one has taken.
var errTaken = errors.New("another node has taken the source over, or it was removed")

// hold is a lease that a job of this process has.
type hold struct {
	s       *Service
	source  string
	lease   lease
	ctx     context.Context // ends when the lease is lost, or may be
	end     context.CancelCauseFunc
	lapse   *time.Timer
	fenceAt store.Version
	stop    context.CancelFunc
	beats   sync.WaitGroup

	at   store.Version // of the lease; used by one goroutine at a time
	told Progress      // the last that was published
}

func fenceOf(source string) store.Key { return spaceFence.Key(source) }

// take takes the source's lease for a job. When another job has it, take waits
// for its end, unless now is set; force does not care.
func (s *Service) take(ctx context.Context, source, job string, now, force bool) (*hold, error) {
	for {
		h, err := s.tryTake(ctx, source, job, force)
		var held *errHeld
		if err == nil || now || !errors.As(err, &held) && !errors.Is(err, store.ErrBusy) {
			return h, err
		}
		if !leasing.Wait(ctx, lookEvery/4) {
			return nil, context.Cause(ctx)
		}
	}
}

func (s *Service) tryTake(ctx context.Context, source, job string, force bool) (*hold, error) {
	l := lease{V: leaseV, Node: s.cfg.Node.ID, Boot: s.boot, Job: job, TTL: leaseTTL}
	value, err := encode(l)
	if err != nil {
		return nil, err
	}
	s.working(job, true) // before the lease can be seen
	var sent time.Time
	res, err := s.cfg.Store.Update(ctx, func(u *store.Update) error {
		item, err := u.Get(spaceLease.Key(source))
		switch {
		case err == nil && !force:
			if other, dead := s.judge(source, item); !dead {
				return &errHeld{other.Node}
			}
		case err != nil && !errors.Is(err, store.ErrNotFound):
			return err
		}
		u.Put(spaceLease.Key(source), value)
		u.Put(fenceOf(source), nil)
		sent = time.Now()
		return nil
	})
	if err != nil {
		s.working(job, false)
		return nil, err
	}
	h := &hold{s: s, source: source, lease: l, at: res.Version, fenceAt: res.Version}
	h.ctx, h.end = context.WithCancelCause(ctx)
	h.lapse = time.AfterFunc(sure(sent), func() { h.end(errTaken) })
	var life context.Context
	life, h.stop = context.WithCancel(ctx)
	h.beats.Go(func() { h.beat(life) })
	return h, nil
}

// sure is for how long still a lease that was written after a moment makes its
// holder the only one.
func sure(sent time.Time) time.Duration { return leasing.Sure(leaseTTL) - time.Since(sent) }

// working notes that a job of this process has, or may have, a lease, or that it
// has ended.
func (s *Service) working(job string, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on {
		s.atWork[job] = true
	} else {
		delete(s.atWork, job)
	}
}

// judge decodes a lease and says whether its holder is gone: an earlier process
// of this node, a job of this one that has ended without being able to give it
// back, as on a full disk, or one that has been silent for the lease's whole life.
func (s *Service) judge(source string, item store.Item) (l lease, dead bool) {
	if decode(item.Value, &l) != nil {
		return l, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.Node == s.cfg.Node.ID {
		return l, l.Boot != s.boot || !s.atWork[l.Job]
	}
	return l, s.seen.Dead(source, item.Version, l.TTL)
}

// beat publishes the job's progress and renews its lease until the job ends.
func (h *hold) beat(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		tx := store.NewTx()
		tx.Check(spaceLease.Key(h.source), h.at)
		h.tell(tx)
		renews := n%3 == 0
		if renews {
			if value, err := encode(h.lease); err == nil {
				tx.Put(spaceLease.Key(h.source), value)
			}
		}
		if tx.Len() == 1 {
			continue
		}
		sent := time.Now()
		res, err := leasing.Insist(ctx, h.s.cfg.Store, tx)
		switch {
		case err == nil && renews:
			h.at = res.Version
			h.lapse.Reset(sure(sent))
		case errors.Is(err, store.ErrConflict):
			h.end(errTaken)
			return
		}
	}
}

// tell adds the job's progress to the transaction when it has changed. The
// things left out are told at the end.
func (h *hold) tell(tx *store.Tx) {
	p := h.s.state(h.source, Progress{}).progress()
	p.Skips = nil
	if p.Job != h.lease.Job || p.same(h.told) {
		return
	}
	if b, err := encode(p); err == nil {
		tx.Put(spaceProgress.Key(h.source), b)
		h.told = p
	}
}

// release gives the lease back together with what end adds, unless it was lost.
func (h *hold) release(end func(tx *store.Tx) error) error {
	h.stop()
	h.beats.Wait()
	h.lapse.Stop()
	h.end(nil)
	defer h.s.working(h.lease.Job, false)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.s.ctx), 10*time.Second)
	defer cancel()
	for pause := 10 * time.Millisecond; ; pause *= 2 {
		tx := store.NewTx()
		tx.Check(spaceLease.Key(h.source), h.at)
		tx.Delete(spaceLease.Key(h.source))
		if err := end(tx); err != nil {
			return err
		}
		_, err := leasing.Insist(ctx, h.s.cfg.Store, tx)
		if errors.Is(err, store.ErrBusy) && leasing.Wait(ctx, pause) {
			continue
		}
		if errors.Is(err, store.ErrConflict) {
			return errTaken
		}
		return err
	}
}

// look ends, for all nodes, what a node left that went away in the middle of it.
func (s *Service) look(ctx context.Context) error {
	type left struct {
		source string
		lease  lease
		at     store.Version
	}
	var found []left
	there := map[string]bool{}
	err := s.cfg.Store.View(ctx, store.Local, func(snap store.Snapshot) error {
		for item, err := range snap.Scan(spaceLease.Prefix(), "") {
			if err != nil {
				return err
			}
			parts, ok := spaceLease.Parts(item.Key)
			if !ok || len(parts) != 1 {
				continue
			}
			there[parts[0]] = true
			if l, dead := s.judge(parts[0], item); dead && (s.cfg.Leads() || l.Node == s.cfg.Node.ID) {
				found = append(found, left{parts[0], l, item.Version})
			}
		}
		return nil
	})
	if err == nil {
		s.seen.Keep(there)
	}
	for _, l := range found {
		err = errors.Join(err, s.abandon(ctx, l.source, l.lease, l.at))
	}
	return err
}

// abandon removes a dead job's lease, fences what it might still want to write,
// and says how it ended.
func (s *Service) abandon(ctx context.Context, source string, l lease, at store.Version) error {
	var last Progress
	err := s.cfg.Store.View(ctx, store.Local, func(snap store.Snapshot) (err error) {
		last, err = lastProgress(snap, source)
		return err
	})
	if err != nil {
		return err
	}
	tx := store.NewTx()
	tx.Check(spaceLease.Key(source), at)
	tx.Delete(spaceLease.Key(source))
	tx.Put(fenceOf(source), nil)
	if last.Job == l.Job {
		last.Running, last.Finished, last.Error = false, s.cfg.Now().UTC(), "node "+l.Node+" stopped in the middle of the sync; the next one goes on from there"
		b, err := encode(last)
		if err != nil {
			return err
		}
		tx.Put(spaceProgress.Key(source), b)
	}
	if _, err := leasing.Insist(ctx, s.cfg.Store, tx); err != nil && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("end what node %s left of source %q: %w", l.Node, source, err)
	}
	return nil
}

func encode(v any) ([]byte, error) {
	mode, err := progressMode()
	if err != nil {
		return nil, err
	}
	return mode.Marshal(v)
}

func decode(b []byte, v any) error { return cbor.Unmarshal(b, v) }
