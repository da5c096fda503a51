package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/models/registry"
	"github.com/cloister-os/cloister/store/blob"
)

// Bounds of following the registry.
const (
	lookEvery  = 30 * time.Second
	retryFirst = 2 * time.Second
	retryLast  = 5 * time.Minute
	pullWithin = 24 * time.Hour
	tellEvery  = time.Second // how often progress is told
	maxModel   = 1 << 40     // bytes of one file
)

// Run brings models here and removes them, as the registry says, until the
// context ends.
func (f *Fleet) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { _ = f.cfg.Registry.FollowModels(ctx, f.Kick) })
	all.Go(func() { f.runVerify(ctx) })
	for {
		wait := lookEvery
		if err := f.look(ctx, &wait); err != nil && ctx.Err() == nil {
			f.cfg.Logger.Warn("The models of this node could not be compared with the registry; they will be again in a moment.", "error", err)
			wait = retryFirst
		}
		again := time.NewTimer(wait)
		select {
		case <-f.wake:
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return nil
		}
		again.Stop()
	}
}

// Kick makes Run look at the registry now.
func (f *Fleet) Kick() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// look makes this node's models those of the registry, one after the other. It
// lowers wait to when it should be called again.
func (f *Fleet) look(ctx context.Context, wait *time.Duration) error {
	if err := f.introduce(ctx); err != nil {
		return err
	}
	wanted, err := f.cfg.Registry.Wanted(ctx)
	if err != nil {
		return err
	}
	f.forget(wanted)
	for _, m := range wanted {
		if err := f.lookAt(ctx, m, wait); err != nil {
			return err
		}
	}
	return f.removeOthers(ctx, wanted)
}

// introduce says whether this node wants models, once there are others to know,
// and forgets nodes that have been removed.
func (f *Fleet) introduce(ctx context.Context) error {
	others := f.cfg.Peers.Others()
	if len(others) == 0 {
		return nil
	}
	all, err := f.cfg.Registry.Hosts(ctx)
	if err != nil {
		return err
	}
	for node := range all {
		if node != f.cfg.Node && !slices.Contains(others, node) {
			if err := f.cfg.Registry.DropNode(ctx, node); err != nil {
				return err
			}
		}
	}
	if h, ok := all[f.cfg.Node]; ok && h.Local == !f.cfg.Away {
		return nil
	}
	return f.cfg.Registry.SetHost(ctx, f.cfg.Node, registry.Host{Local: !f.cfg.Away})
}

// forget drops what is remembered of models that are no more.
func (f *Fleet) forget(wanted []registry.Model) {
	f.mu.Lock()
	defer f.mu.Unlock()
	names := map[string]bool{}
	for _, m := range wanted {
		names[m.Name] = true
	}
	gone := func(name string) bool { return !names[name] }
	maps.DeleteFunc(f.here, func(name string, _ bool) bool { return gone(name) })
	maps.DeleteFunc(f.failures, func(name string, _ setback) bool { return gone(name) })
}

// lookAt says that a model is here, or brings it.
func (f *Fleet) lookAt(ctx context.Context, m registry.Model, wait *time.Duration) error {
	f.mu.Lock()
	busy, before := f.importing[m.Name] > 0, f.failures[m.Name]
	f.mu.Unlock()
	if before.entry != m.Version {
		before = setback{}
	}
	if busy {
		return nil
	}
	if f.holds(ctx, m) {
		return f.stand(ctx, m, registry.Standing{Stage: registry.Ready, Digest: m.Digest})
	}
	f.mu.Lock()
	delete(f.here, m.Name)
	f.mu.Unlock()
	switch {
	case f.cfg.Away || f.alone() || len(m.Image.Blobs) == 0:
		return nil
	case time.Now().Before(before.until):
		*wait = min(*wait, time.Until(before.until))
		return nil
	}
	err := f.pull(ctx, m)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		delete(f.failures, m.Name)
		f.here[m.Name] = true
		return nil
	}
	pause := min(max(2*before.pause, retryFirst), retryLast)
	f.failures[m.Name] = setback{m.Version, time.Now().Add(pause), pause}
	*wait = min(*wait, pause)
	return nil // it stands in the registry why
}

// holds reports whether this node's engine has the model as the registry does.
func (f *Fleet) holds(ctx context.Context, m registry.Model) bool {
	image, err := f.Engine.Image(ctx, m.Name)
	if err != nil {
		return false
	}
	if len(m.Image.Blobs) > 0 && !bytes.Equal(image.Manifest, m.Image.Manifest) {
		return false
	}
	for _, b := range image.Blobs {
		if !f.has(b) {
			return false
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.here[m.Name] = true
	return true
}

func (f *Fleet) has(b models.Blob) bool {
	file, size, err := f.Engine.Open(b.Digest)
	if err != nil {
		return false
	}
	file.Close()
	return size == b.Bytes
}

// stand tells how this node stands with a model, if that is news and there is
// another node to read it.
func (f *Fleet) stand(ctx context.Context, m registry.Model, s registry.Standing) error {
	if f.alone() {
		return nil
	}
	all, err := f.cfg.Registry.Standings(ctx, m.Name)
	if err != nil {
		return err
	}
	if before, ok := all[f.cfg.Node]; ok {
		before.V = 0
		if before == s {
			return nil
		}
	}
	return f.cfg.Registry.SetStanding(ctx, m.Name, f.cfg.Node, &s)
}

// unlessRemoved returns a context that ends when a model is no longer wanted.
func (f *Fleet) unlessRemoved(ctx context.Context, m registry.Model) (context.Context, context.CancelFunc) {
	within, cancel := context.WithCancel(ctx)
	go func() {
		tick := time.NewTicker(tellEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-within.Done():
				return
			}
			wanted, err := f.cfg.Registry.Wanted(within)
			if err == nil && !slices.ContainsFunc(wanted, func(w registry.Model) bool { return w.Name == m.Name && w.Digest == m.Digest }) {
				cancel()
			}
		}
	}()
	return within, cancel
}

// pull brings a model here, through the guard.
func (f *Fleet) pull(ctx context.Context, m registry.Model) error {
	within, cancel := f.unlessRemoved(ctx, m)
	defer cancel()
	f.cfg.Logger.Info("A model is brought from another node.", "model", m.Name, "bytes", m.Image.Bytes())
	req := guard.Request{Principal: f.cfg.Principal, Action: auth.ModelManage, Resource: auth.Model(m.Name), Within: pullWithin, Detail: map[string]any{"what": "replicate"}}
	err := f.cfg.Guard.Do(within, req, func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		err := f.pullFiles(ctx, permit, m)
		if err == nil {
			err = f.Engine.Install(ctx, permit, m.Name, m.Image)
		}
		if err != nil {
			return guard.Outcome{Status: guard.StatusFailed, Error: sentence(err)}, err
		}
		return guard.Outcome{Status: guard.StatusOK, Usage: map[string]int64{"bytes": m.Image.Bytes()}}, nil
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case within.Err() != nil:
		f.cfg.Logger.Info("A model was removed while it was brought from another node.", "model", m.Name)
		return within.Err()
	case err != nil:
		f.cfg.Logger.Warn("A model could not be brought from another node; it will be tried again.", "model", m.Name, "error", err)
		return errors.Join(err, f.stand(ctx, m, registry.Standing{Stage: registry.Failed, Digest: m.Digest, For: uint64(m.Version), Why: sentence(err)}))
	}
	f.cfg.Logger.Info("A model came from another node and can be used here.", "model", m.Name)
	return f.stand(ctx, m, registry.Standing{Stage: registry.Ready, Digest: m.Digest})
}

func (f *Fleet) pullFiles(ctx context.Context, permit *guard.Permit, m registry.Model) error {
	missing := slices.DeleteFunc(slices.Clone(m.Image.Blobs), f.has)
	var needs int64
	for _, b := range missing {
		needs += b.Bytes
	}
	if err := f.Engine.Room(needs); err != nil {
		return err
	}
	p := &progress{fleet: f, ctx: ctx, model: m, done: m.Image.Bytes() - needs}
	p.tell(true)
	for _, b := range missing {
		if err := f.pullFile(ctx, permit, m, b, p); err != nil {
			return err
		}
	}
	return nil
}

// pullFile brings one file. One that turns out wrong is begun again from another
// node, once for each node at most.
func (f *Fleet) pullFile(ctx context.Context, permit *guard.Permit, m registry.Model, b models.Blob, p *progress) error {
	h, err := blob.Parse(string(b.Digest))
	if err != nil {
		return models.Fail(models.ErrInvalid, "the description of model %s names a file wrongly: import it again", m.Name)
	}
	before := p.done
	for range len(f.cfg.Peers.Others()) + 1 {
		s, openErr := f.cfg.Exchange.Stream(ctx, h, f.readyNodes(ctx, m), maxModel)
		if openErr != nil {
			return fmt.Errorf("file %s of model %s: %w", short(b.Digest), m.Name, openErr)
		}
		if s.Size() != b.Bytes {
			s.Verdict(false)
			s.Close()
			err = models.Fail(models.ErrInvalid, "file %s of model %s has another size on the other nodes: import it again", short(b.Digest), m.Name)
			continue
		}
		p.done = before
		counted := &counting{Stream: s, progress: p}
		err = f.Engine.Put(ctx, permit, m.Name, b.Digest, b.Bytes, counted)
		wrong := errors.Is(err, models.ErrInvalid) && counted.err == nil
		if err == nil || wrong {
			s.Verdict(err == nil)
		}
		s.Close()
		if !wrong {
			return err
		}
	}
	return err
}

// readyNodes are the nodes that say they hold a model.
func (f *Fleet) readyNodes(ctx context.Context, m registry.Model) (nodes []string) {
	all, err := f.cfg.Registry.Standings(ctx, m.Name)
	if err != nil {
		return nil
	}
	for _, node := range sortedKeys(all) {
		if all[node].Stage == registry.Ready && all[node].Digest == m.Digest {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

func short(d models.Digest) string { return string(d[:min(12, len(d))]) }

// sentence is an error in one line, without a line break or a control character.
func sentence(err error) string {
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, err.Error())
	if len(text) > 300 {
		text = strings.ToValidUTF8(text[:300], "") + "…"
	}
	return text
}

// removeOthers removes the models that this node brought here and that are no
// longer in the registry.
func (f *Fleet) removeOthers(ctx context.Context, wanted []registry.Model) error {
	mine, err := f.cfg.Registry.StandingOf(ctx, f.cfg.Node)
	if err != nil {
		return err
	}
	for _, name := range mine {
		if named(wanted, name) || !f.mayRemove(name) {
			continue
		}
		now, err := f.cfg.Registry.Wanted(ctx) // it may have been imported since
		if err == nil && !named(now, name) {
			err = f.remove(ctx, name)
		}
		f.mayRemove("")
		if err != nil {
			return err
		}
	}
	return nil
}

func named(all []registry.Model, name string) bool {
	return slices.ContainsFunc(all, func(m registry.Model) bool { return m.Name == name })
}

// mayRemove says that a model is being removed, "" that none is, and reports false
// when it is being imported.
func (f *Fleet) mayRemove(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.importing[name] > 0 {
		return false
	}
	f.removing = name
	f.removed.Broadcast()
	return true
}

func (f *Fleet) remove(ctx context.Context, name string) error {
	req := guard.Request{Principal: f.cfg.Principal, Action: auth.ModelManage, Resource: auth.Model(name), Detail: map[string]any{"what": "remove from this node"}}
	err := f.cfg.Guard.Do(ctx, req, func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		err := f.Engine.Delete(ctx, permit, name)
		if errors.Is(err, models.ErrNoModel) {
			err = nil
		}
		return guard.Outcome{}, err
	})
	if err != nil {
		return err
	}
	return f.cfg.Registry.SetStanding(ctx, name, f.cfg.Node, nil)
}
