package fleet

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"time"

	"github.com/cloister-os/cloister/models"
)

// headWait is how long another node may take to begin to answer at all, a model
// to load included, before the next one is asked.
const headWait = 3 * time.Minute

// ask sends one request to another node; its reply has status 200.
func (f *Fleet) ask(ctx context.Context, node, what string, body any) (*http.Response, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+node+Prefix+what, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := f.cfg.Peers.Client().Do(req)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, models.Fail(models.ErrUnavailable, "node %s, which holds the model, does not answer: try again", node)
	case res.StatusCode != http.StatusOK:
		res.Body.Close()
		return nil, models.Fail(models.ErrUnavailable, "node %s, which holds the model, answered with status %d: try again", node, res.StatusCode)
	}
	return res, nil
}

// broke is the error of a reply that ended early.
func broke(ctx context.Context, node string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return models.Fail(models.ErrInterrupted, "node %s, which ran the model, went away in the middle of the answer: ask again", node)
}

// remoteComplete streams a completion from another node. Like an engine, it
// yields with an error what is known to have been used.
func (f *Fleet) remoteComplete(ctx context.Context, node, intent string, p models.Prompt) iter.Seq2[models.Chunk, error] {
	return func(yield func(models.Chunk, error) bool) {
		began, pieces := time.Now(), int64(0)
		end := func(err error) {
			var usage models.Usage
			if pieces > 0 {
				usage = models.Usage{TokensOut: pieces, CPU: time.Since(began)}
			}
			yield(models.Chunk{Usage: usage}, err)
		}
		within, cancel := context.WithCancelCause(ctx) // a consumer that stops ends the model there
		defer cancel(nil)
		late := time.AfterFunc(headWait, func() {
			cancel(models.Fail(models.ErrUnavailable, "node %s, which holds the model, does not answer: try again", node))
		})
		defer late.Stop()
		res, err := f.ask(within, node, "complete", completeRequest{intent, p})
		if err != nil {
			end(err)
			return
		}
		defer res.Body.Close()
		lines := bufio.NewScanner(res.Body)
		lines.Buffer(nil, maxLine)
		for lines.Scan() {
			late.Stop()
			var l line
			if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
				break
			}
			if l.Failed != nil {
				yield(l.Chunk, l.Failed.error())
				return
			}
			pieces++
			if !yield(l.Chunk, nil) || l.Done {
				return
			}
		}
		end(broke(within, node))
	}
}

// remoteEmbed makes vectors on another node.
func (f *Fleet) remoteEmbed(ctx context.Context, node, intent, model string, texts []string) ([][]float32, models.Usage, error) {
	res, err := f.ask(ctx, node, "embed", embedRequest{intent, model, texts})
	if err != nil {
		return nil, models.Usage{}, err
	}
	defer res.Body.Close()
	var reply embedReply
	data, err := io.ReadAll(io.LimitReader(res.Body, maxReply))
	if err != nil || json.Unmarshal(data, &reply) != nil {
		return nil, models.Usage{}, broke(ctx, node)
	}
	if err := reply.Failed.error(); err != nil {
		return nil, reply.Usage, err
	}
	if err := sameShape(reply.Vectors, len(texts)); err != nil {
		return nil, reply.Usage, models.Fail(models.ErrUnavailable, "node %s %w", node, err)
	}
	return reply.Vectors, reply.Usage, nil
}

func sameShape(vectors [][]float32, texts int) error {
	if len(vectors) != texts {
		return fmt.Errorf("returned %d vectors for %d texts", len(vectors), texts)
	}
	for _, v := range vectors {
		if len(v) == 0 || len(v) != len(vectors[0]) {
			return fmt.Errorf("returned vectors of different lengths")
		}
	}
	return nil
}
