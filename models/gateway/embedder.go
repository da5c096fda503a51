package gateway

import (
	"context"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/models/registry"
)

// Embedder makes vectors for one principal over the embedding route. Its method
// set is what graph asks of an embedder; node joins the two.
type Embedder struct {
	gateway   *Gateway
	principal auth.Principal
}

// Embedder returns an embedder that acts for p.
func (g *Gateway) Embedder(p auth.Principal) *Embedder { return &Embedder{gateway: g, principal: p} }

// Embed returns one vector of length one for each text, in calls of at most
// maxInputs texts. Without an embedding model its error matches
// models.ErrNoModel.
func (e *Embedder) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	m, err := e.gateway.resolve(ctx, registry.Embedding, models.Embedding)
	if err != nil {
		return nil, err
	}
	all := make([][]float32, 0, len(texts))
	for len(texts) > 0 {
		n := batch(texts)
		vectors, _, err := e.gateway.embed(ctx, embedding{principal: e.principal, texts: texts[:n]}, m)
		if err != nil {
			return nil, err
		}
		all = append(all, vectors...)
		texts = texts[n:]
	}
	return all, nil
}

// batch says how many of the texts fit one call: at least one.
func batch(texts []string) int {
	n, bytes := 0, 0
	for n < len(texts) && n < maxInputs && (n == 0 || bytes+len(texts[n]) <= maxBody/2) {
		bytes += len(texts[n])
		n++
	}
	return n
}

// Model names the model behind the route, or "" when there is none: vectors of
// different models must not be compared.
func (e *Embedder) Model() string {
	m, err := e.gateway.resolve(context.Background(), registry.Embedding, models.Embedding)
	if err != nil {
		return ""
	}
	return m.Name + "@" + m.Digest[:min(12, len(m.Digest))]
}

// Dimensions is the length of the vectors, or 0 without a model.
func (e *Embedder) Dimensions() int {
	m, err := e.gateway.resolve(context.Background(), registry.Embedding, models.Embedding)
	if err != nil {
		return 0
	}
	return m.Dimensions
}
