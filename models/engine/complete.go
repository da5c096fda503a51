package engine

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/models"
)

// maxLine bounds one line of a streamed completion.
const maxLine = 1 << 20

// completionRequest is the body of /api/chat and /api/generate.
type completionRequest struct {
	Model    string           `json:"model"`
	Messages []models.Message `json:"messages,omitempty"`
	Prompt   string           `json:"prompt,omitempty"`
	Raw      bool             `json:"raw,omitempty"`
	Format   string           `json:"format,omitempty"`
	Options  map[string]any   `json:"options"`
	Truncate bool             `json:"truncate"` // false: a prompt that is too long is refused, not cut
	Shift    bool             `json:"shift"`    // false: the answer ends at the window's end
	Stream   bool             `json:"stream"`
}

// completionLine is one line of the streamed reply of either.
type completionLine struct {
	Message    models.Message `json:"message"`
	Response   string         `json:"response"`
	Done       bool           `json:"done"`
	Reason     string         `json:"done_reason"`
	Error      string         `json:"error"`
	TokensIn   int64          `json:"prompt_eval_count"`
	TokensOut  int64          `json:"eval_count"`
	PrefillFor time.Duration  `json:"prompt_eval_duration"`
	DecodeFor  time.Duration  `json:"eval_duration"`
}

// Complete implements models.Engine.
func (e *Engine) Complete(ctx context.Context, permit *guard.Permit, p models.Prompt) iter.Seq2[models.Chunk, error] {
	return func(yield func(models.Chunk, error) bool) {
		began := time.Now()
		var pieces int64
		err := e.complete(ctx, permit, p, func(c models.Chunk) bool {
			if c.Text != "" {
				pieces++
			}
			return yield(c, nil)
		})
		if err == nil {
			return
		}
		// The child reports counts only at the end: of a call that has none, what
		// came out is known and the time it may have been busy.
		var usage models.Usage
		if pieces > 0 {
			usage = models.Usage{TokensOut: pieces, CPU: time.Since(began) * time.Duration(e.config.Threads)}
		}
		yield(models.Chunk{Usage: usage}, err)
	}
}

// complete calls on with each chunk until the last; the error it returns has not
// been reported otherwise. It returns nil when on returns false.
func (e *Engine) complete(ctx context.Context, permit *guard.Permit, p models.Prompt, on func(models.Chunk) bool) error {
	if err := permit.Covers(auth.ModelInfer, auth.Model(p.Model)); err != nil {
		return err
	}
	path, req, err := e.completionRequest(p)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx) // a consumer that stops ends the decoding
	defer cancel()
	res, err := e.send(ctx, "POST", path, req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxLine)
	var pieces int64
	for lines.Scan() {
		var line completionLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("%w: its reply is not readable", models.ErrInterrupted)
		}
		if line.Error != "" {
			return streamError(ctx, line.Error)
		}
		chunk := e.chunk(line)
		if chunk.Text == "" && !chunk.Done {
			continue
		}
		pieces++
		if !on(chunk) || chunk.Done {
			return nil
		}
	}
	if err := lines.Err(); err != nil || ctx.Err() != nil {
		return streamError(ctx, "unexpected EOF")
	}
	return e.endRepetition(ctx, path, req, pieces, on)
}

// streamError is why a completion ended after it had begun.
func streamError(ctx context.Context, text string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &diedError{oneLine(text)}
}

func (e *Engine) chunk(line completionLine) models.Chunk {
	c := models.Chunk{Text: line.Message.Content + line.Response, Done: line.Done}
	if !line.Done {
		return c
	}
	c.Reason = "stop"
	if line.Reason == "length" {
		c.Reason = "length"
	}
	c.Usage = models.Usage{
		TokensIn:  line.TokensIn,
		TokensOut: line.TokensOut,
		CPU:       (line.PrefillFor + line.DecodeFor) * time.Duration(e.config.Threads),
	}
	return c
}

// endRepetition ends a stream that the child broke off without a last line,
// which it does after 30 equal tokens in a row. The child has then reported no
// counts: each piece was one token, and the prompt's are asked for by a call
// that decodes a single token of the same, still cached, prompt.
func (e *Engine) endRepetition(ctx context.Context, path string, req completionRequest, pieces int64, on func(models.Chunk) bool) error {
	req.Options["num_predict"] = 1
	req.Stream = false
	var line completionLine
	if err := e.call(ctx, "POST", path, req, &line); err != nil {
		return err
	}
	last := e.chunk(line)
	last.Text, last.Reason = "", "stop"
	last.Usage.TokensOut = pieces
	last.Usage.CPU += line.DecodeFor * time.Duration(pieces) * time.Duration(e.config.Threads)
	on(last)
	return nil
}

func (e *Engine) completionRequest(p models.Prompt) (path string, req completionRequest, err error) {
	if err := checkName(p.Model); err != nil {
		return "", req, err
	}
	if (len(p.Messages) == 0) == (p.Raw == "") {
		return "", req, models.Fail(models.ErrInvalid, "a completion needs either messages or a raw prompt")
	}
	req = completionRequest{Model: p.Model, Messages: p.Messages, Prompt: p.Raw, Raw: p.Raw != "", Stream: true, Options: e.options(p)}
	if p.JSON {
		req.Format = "json"
	}
	if req.Raw {
		return "/api/generate", req, nil
	}
	return "/api/chat", req, nil
}

// options are sent whole with each call: a change of num_thread or num_ctx
// between calls would make the child load the model again.
func (e *Engine) options(p models.Prompt) map[string]any {
	limit := p.MaxTokens
	if limit <= 0 || limit > e.config.Context {
		limit = e.config.Context
	}
	o := map[string]any{"num_thread": e.config.Threads, "num_ctx": e.config.Context, "num_predict": limit}
	if p.Temperature != nil {
		o["temperature"] = *p.Temperature
	}
	if p.TopP != nil {
		o["top_p"] = *p.TopP
	}
	if p.Frequency != nil {
		o["frequency_penalty"] = *p.Frequency
	}
	if p.Presence != nil {
		o["presence_penalty"] = *p.Presence
	}
	if p.Seed != nil {
		o["seed"] = *p.Seed
	}
	if len(p.Stop) > 0 {
		o["stop"] = p.Stop
	}
	return o
}
