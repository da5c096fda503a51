package fleet

import (
	"context"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
)

// When this node's models are read to find damage: a while after its start, and
// then seldom, since a model is large.
const (
	verifyAfter = 10 * time.Minute
	verifyEvery = 7 * 24 * time.Hour
)

// runVerify looks for damage, for ever.
func (f *Fleet) runVerify(ctx context.Context) {
	for wait := verifyAfter; ; wait = verifyEvery {
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		if err := f.VerifyModels(ctx); err != nil && ctx.Err() == nil {
			f.cfg.Logger.Warn("This node's models could not be read to find damage; they will be again.", "error", err)
		}
	}
}

// VerifyModels reads this node's models and has those that are damaged brought again
// from another node, where there is one: a node alone keeps them as they are.
func (f *Fleet) VerifyModels(ctx context.Context) error {
	if f.alone() || f.cfg.Away {
		return nil
	}
	wanted, err := f.cfg.Registry.Wanted(ctx)
	if err != nil {
		return err
	}
	for _, m := range wanted {
		if len(f.readyNodes(ctx, m)) < 2 || !f.holds(ctx, m) {
			continue // nobody else has it
		}
		if err := f.verify(ctx, m.Name); err != nil {
			return err
		}
	}
	return nil
}

func (f *Fleet) verify(ctx context.Context, name string) error {
	defer f.Importing(name)() // Run looks at it when this is done
	req := guard.Request{Principal: f.cfg.Principal, Action: auth.ModelManage, Resource: auth.Model(name), Within: pullWithin, Detail: map[string]any{"what": "verify"}}
	return f.cfg.Guard.Do(ctx, req, func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		damaged, err := f.Engine.Verify(ctx, permit, name)
		if len(damaged) > 0 {
			f.cfg.Logger.Warn("A model on this node's disk is damaged; it is brought again from another node.", "model", name, "files", len(damaged))
		}
		return guard.Outcome{Usage: map[string]int64{"damaged": int64(len(damaged))}}, err
	})
}
