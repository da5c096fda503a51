package fleet

import (
	"context"
	"iter"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/models"
)

// Complete implements models.Engine.
func (f *Fleet) Complete(ctx context.Context, permit *guard.Permit, p models.Prompt) iter.Seq2[models.Chunk, error] {
	return func(yield func(models.Chunk, error) bool) {
		if err := permit.Covers(auth.ModelInfer, auth.Model(p.Model)); err != nil {
			yield(models.Chunk{}, err)
			return
		}
		nodes, err := f.order(ctx, p.Model)
		if err != nil {
			yield(models.Chunk{}, err)
			return
		}
		for i, node := range nodes {
			if f.completeOn(ctx, node, permit, p, i == len(nodes)-1, yield) {
				return
			}
		}
	}
}

// completeOn runs a completion on one node. It reports false, having yielded
// nothing, when another node is to be asked.
func (f *Fleet) completeOn(ctx context.Context, node string, permit *guard.Permit, p models.Prompt, last bool, yield func(models.Chunk, error) bool) bool {
	began := false
	for chunk, err := range f.stream(ctx, node, permit, p) {
		if err != nil && !began && !last && elsewhere(ctx, err) {
			f.cfg.Logger.Debug("A completion goes to another node.", "model", p.Model, "from", node, "error", err)
			return false
		}
		began = true
		if !yield(chunk, err) {
			return true
		}
	}
	return true
}

func (f *Fleet) stream(ctx context.Context, node string, permit *guard.Permit, p models.Prompt) iter.Seq2[models.Chunk, error] {
	if node == f.cfg.Node {
		return f.Engine.Complete(ctx, permit, p)
	}
	return f.remoteComplete(ctx, node, permit.ID(), p)
}

// Embed implements models.Engine.
func (f *Fleet) Embed(ctx context.Context, permit *guard.Permit, model string, texts []string) (vectors [][]float32, usage models.Usage, err error) {
	if err := permit.Covers(auth.ModelEmbed, auth.Model(model)); err != nil {
		return nil, usage, err
	}
	nodes, err := f.order(ctx, model)
	if err != nil {
		return nil, usage, err
	}
	for _, node := range nodes {
		var used models.Usage
		if node == f.cfg.Node {
			vectors, used, err = f.Engine.Embed(ctx, permit, model, texts)
		} else {
			vectors, used, err = f.remoteEmbed(ctx, node, permit.ID(), model, texts)
		}
		usage = sum(usage, used)
		if err == nil || !elsewhere(ctx, err) {
			break
		}
		f.cfg.Logger.Debug("Texts to embed go to another node.", "model", model, "from", node, "error", err)
	}
	return vectors, usage, err
}

func sum(a, b models.Usage) models.Usage {
	return models.Usage{TokensIn: a.TokensIn + b.TokensIn, TokensOut: a.TokensOut + b.TokensOut, CPU: a.CPU + b.CPU}
}
