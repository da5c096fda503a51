package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/models/registry"
)

// shareLook is how often an import looks whether a second node holds the model.
// Failures count after shareFails: by then a node has tried more than once.
const (
	shareLook  = 200 * time.Millisecond
	shareFails = 5 * time.Second
)

// Importing says that a model is being imported on this node, so that Run leaves
// it alone until done is called. When Run is just removing what an earlier import
// left, it waits for that: else the new model would be removed for the old one.
func (f *Fleet) Importing(name string) (done func()) {
	f.mu.Lock()
	for name != "" && f.removing == name {
		f.removed.Wait()
	}
	f.importing[name]++
	f.mu.Unlock()
	return func() {
		f.mu.Lock()
		if f.importing[name]--; f.importing[name] <= 0 {
			delete(f.importing, name)
		}
		f.mu.Unlock()
		f.Kick()
	}
}

// Share returns when min(2, nodes that want models) nodes hold a model that this
// node's engine holds and the registry does not know yet. The caller then enters
// it into the registry, or gives up, and calls Unstage either way. progress is
// called with the bytes that the fastest other node has.
func (f *Fleet) Share(ctx context.Context, m registry.Model, progress func(done int64)) error {
	others, err := f.takers(ctx)
	if err != nil || len(others) == 0 {
		return err
	}
	if m.Version, err = f.cfg.Registry.Stage(ctx, m); err != nil {
		return err
	}
	ready := registry.Standing{Stage: registry.Ready, Digest: m.Digest}
	if err := f.cfg.Registry.SetStanding(ctx, m.Name, f.cfg.Node, &ready); err != nil {
		return err
	}
	tick := time.NewTicker(shareLook)
	defer tick.Stop()
	for began := time.Now(); ; {
		held, err := f.second(ctx, m, others, progress)
		if held || err != nil && (ctx.Err() != nil || time.Since(began) > shareFails) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// takers are the other nodes that want models.
func (f *Fleet) takers(ctx context.Context) (nodes []string, err error) {
	if f.alone() {
		return nil, nil
	}
	hosts, err := f.cfg.Registry.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	for _, node := range f.cfg.Peers.Others() {
		if hosts[node].Local {
			nodes = append(nodes, node)
		}
	}
	return nodes, nil
}

// second reports whether another node holds the model. When all of them have
// failed, it says why.
func (f *Fleet) second(ctx context.Context, m registry.Model, others []string, progress func(int64)) (bool, error) {
	all, err := f.cfg.Registry.Standings(ctx, m.Name)
	if err != nil {
		return false, err
	}
	var most int64
	var why error
	failures := 0
	for _, node := range others {
		s, ok := all[node]
		if !ok || s.Digest != m.Digest {
			continue
		}
		switch s.Stage {
		case registry.Ready:
			progress(m.Image.Bytes())
			return true, nil
		case registry.Failed:
			if s.For == uint64(m.Version) {
				failures++
				why = fmt.Errorf("node %s: %s", node, s.Why)
			}
		case registry.Pulling:
			most = max(most, s.Done)
		}
	}
	progress(most)
	if failures == len(others) {
		return false, models.Fail(models.ErrUnavailable, "no second node could take the model, which must be on two: %w", why)
	}
	return false, nil
}
