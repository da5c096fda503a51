package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/models"
)

// Bounds of an embedding call. The child refuses a text of more than 512
// tokens, truncation asked for or not, and has no call that counts tokens. So a
// text's tokens are estimated, generously (weight), and a part that does not fit
// all the same is halved until it does: no tokenizer makes more tokens than
// bytes, so parts of safeBytes always fit.
const (
	maxTexts      = 512
	maxTextBytes  = 256 << 10
	maxEmbedBytes = 4 << 20
	partWeight    = 460 * weightOfToken
	safeBytes     = 480
	batchParts    = 16 // in one request: bounds what one failure repeats and what others wait for
)

// weightOfToken makes weight a whole number: a tenth of a token.
const weightOfToken = 10

// Embed implements models.Engine. An empty text has the vector of a space.
func (e *Engine) Embed(ctx context.Context, permit *guard.Permit, model string, texts []string) ([][]float32, models.Usage, error) {
	var usage models.Usage
	if err := permit.Covers(auth.ModelEmbed, auth.Model(model)); err != nil {
		return nil, usage, err
	}
	if err := checkTexts(model, texts); err != nil {
		return nil, usage, err
	}
	var parts []part
	for i, text := range texts {
		for _, piece := range split(text, partWeight) {
			parts = append(parts, part{text: piece, of: i})
		}
	}
	sums := make([][]float32, len(texts))
	for len(parts) > 0 {
		n := min(len(parts), batchParts)
		if err := e.embedParts(ctx, model, parts[:n], sums, &usage); err != nil {
			return nil, usage, err
		}
		parts = parts[n:]
	}
	for _, v := range sums {
		normalise(v)
	}
	return sums, usage, nil
}

// part is a piece of one of the texts.
type part struct {
	text string
	of   int
}

func checkTexts(model string, texts []string) error {
	if err := checkName(model); err != nil {
		return err
	}
	total := 0
	for _, text := range texts {
		if total += len(text); len(text) > maxTextBytes {
			return models.Fail(models.ErrInvalid, "a text to embed has at most %d KiB: split it", maxTextBytes>>10)
		}
	}
	if len(texts) > maxTexts || total > maxEmbedBytes {
		return models.Fail(models.ErrInvalid, "at most %d texts and %d MiB can be embedded at once: send fewer", maxTexts, maxEmbedBytes>>20)
	}
	return nil
}

// embedParts adds the parts' vectors, weighted by length, to the sums of their
// texts. Parts that turn out too long are halved, which ends at safeBytes.
func (e *Engine) embedParts(ctx context.Context, model string, parts []part, sums [][]float32, usage *models.Usage) error {
	vectors, err := e.embedOnce(ctx, model, parts, usage)
	if died(err) {
		vectors, err = e.embedOnce(ctx, model, parts, usage) // embedding has no effect: once more
	}
	if tooLong(err) {
		return e.embedHalves(ctx, model, parts, sums, usage, err)
	}
	if err != nil {
		return err
	}
	for i, p := range parts {
		if sums[p.of] == nil {
			sums[p.of] = make([]float32, len(vectors[i]))
		}
		for j, x := range vectors[i] {
			sums[p.of][j] += x * float32(len(p.text))
		}
	}
	return nil
}

func (e *Engine) embedHalves(ctx context.Context, model string, parts []part, sums [][]float32, usage *models.Usage, why error) error {
	if len(parts) > 1 {
		half := len(parts) / 2
		if err := e.embedParts(ctx, model, parts[:half], sums, usage); err != nil {
			return err
		}
		return e.embedParts(ctx, model, parts[half:], sums, usage)
	}
	p := parts[0]
	if len(p.text) <= safeBytes {
		return why
	}
	var smaller []part
	for _, piece := range split(p.text, max(weightOfToken, weigh(p.text)/2+1)) {
		smaller = append(smaller, part{text: piece, of: p.of})
	}
	return e.embedParts(ctx, model, smaller, sums, usage)
}

func tooLong(err error) bool {
	return errors.Is(err, models.ErrInvalid) &&
		(strings.Contains(err.Error(), "context length") || strings.Contains(err.Error(), "too large"))
}

func (e *Engine) embedOnce(ctx context.Context, model string, parts []part, usage *models.Usage) ([][]float32, error) {
	input := make([]string, len(parts))
	for i, p := range parts {
		input[i] = p.text
	}
	// One at a time: a runner takes no more, and the durations it reports would
	// count the waiting.
	select {
	case e.embeds <- struct{}{}:
		defer func() { <-e.embeds }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	body := map[string]any{"model": model, "input": input, "truncate": false, "options": map[string]any{"num_thread": e.config.Threads}}
	var reply struct {
		Embeddings [][]float32   `json:"embeddings"`
		Total      time.Duration `json:"total_duration"`
		Load       time.Duration `json:"load_duration"`
		Tokens     int64         `json:"prompt_eval_count"`
	}
	if err := e.call(ctx, "POST", "/api/embed", body, &reply); err != nil {
		return nil, err
	}
	if len(reply.Embeddings) != len(parts) {
		return nil, fmt.Errorf("%w: it returned %d vectors for %d texts", models.ErrUnavailable, len(reply.Embeddings), len(parts))
	}
	for _, v := range reply.Embeddings {
		if len(v) == 0 || len(v) != len(reply.Embeddings[0]) {
			return nil, fmt.Errorf("%w: it returned vectors of different lengths", models.ErrUnavailable)
		}
	}
	usage.TokensIn += reply.Tokens
	usage.CPU += (reply.Total - reply.Load) * time.Duration(e.config.Threads)
	return reply.Embeddings, nil
}

// weight estimates what a character adds to a text's tokens: English has a
// token for four to five letters, identifiers for two to three; digits, signs and
// other scripts may have one each.
func weight(r rune) int {
	switch {
	case 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z':
		return 4
	case r == ' ' || r == '\n' || r == '\t' || r == '\r':
		return 1
	}
	return weightOfToken
}

func weigh(text string) (sum int) {
	for _, r := range text {
		sum += weight(r)
	}
	return sum
}

// split cuts a text into parts of at most limit weight, after white space where
// there is some in a part's second half, and never inside a character.
func split(text string, limit int) []string {
	text = strings.ToValidUTF8(text, "�")
	if strings.TrimSpace(text) == "" {
		return []string{" "}
	}
	var parts []string
	begin, space, sum := 0, 0, 0
	for at, r := range text {
		for at > begin && sum+weight(r) > limit {
			cut := at
			if space-begin > (at-begin)/2 {
				cut = space
			}
			parts = appendText(parts, text[begin:cut])
			begin, space, sum = cut, cut, weigh(text[cut:at])
		}
		sum += weight(r)
		if r == ' ' || r == '\n' || r == '\t' {
			space = at + 1
		}
	}
	return appendText(parts, text[begin:])
}

func appendText(parts []string, text string) []string {
	if strings.TrimSpace(text) == "" {
		return parts
	}
	return append(parts, text)
}

// normalise gives a vector the length one.
func normalise(v []float32) {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if sum == 0 {
		return
	}
	scale := float32(1 / math.Sqrt(sum))
	for i := range v {
		v[i] *= scale
	}
}
