package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/cloister-os/cloister/models"
)

// maxReply bounds a reply that is read whole: 512 vectors of 4,096 numbers are
// about 40 MB of JSON.
const maxReply = 64 << 20

// dialAgain is the pause before a child that does not accept is dialled again.
const dialAgain = 20 * time.Millisecond

// nameForm is what a model may be called: safe in a path, a URL and a log.
var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

func checkName(name string) error {
	if !nameForm.MatchString(name) {
		return models.Fail(models.ErrInvalid, "a model's name has 1 to 64 of a–z, 0–9, '.', '_' and '-', and begins with a letter or digit")
	}
	return nil
}

// send makes one request to the child. Its reply has status 200; any other is
// an error of the matching kind. A child that has just ended is waited for.
func (e *Engine) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(startWait); ; {
		if err := e.await(ctx); err != nil {
			return nil, err
		}
		res, err := e.try(ctx, method, path, data)
		switch {
		case err == nil && res.StatusCode == http.StatusOK:
			return res, nil
		case err == nil:
			defer res.Body.Close()
			return nil, refusal(res)
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !notSent(err) || time.Now().After(deadline):
			return nil, fmt.Errorf("%w: its process ended during the call: try again", models.ErrUnavailable)
		}
		select { // the supervisor is about to notice
		case <-time.After(dialAgain):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (e *Engine) try(ctx context.Context, method, path string, data []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	// All that we ask may be asked twice; so told, the client repeats a request
	// that met a kept connection of a child that has gone.
	req.Header["Idempotency-Key"] = nil
	return e.client.Do(req)
}

// notSent says whether a request failed before the child could see it.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// call is send for a reply that is one JSON value.
func (e *Engine) call(ctx context.Context, method, path string, body, reply any) error {
	res, err := e.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxReply+1))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("%w: its process ended during the call: try again", models.ErrUnavailable)
	case len(data) > maxReply:
		return models.Fail(models.ErrInvalid, "the reply is larger than %d MiB: ask for less at once", maxReply>>20)
	case reply == nil:
		return nil
	}
	var failed struct{ Error string }
	if json.Unmarshal(data, &failed) == nil && failed.Error != "" {
		return models.Fail(models.ErrInvalid, "the model engine says: %s", oneLine(failed.Error))
	}
	return json.Unmarshal(data, reply)
}

// refusal makes an error of a reply whose status is not 200.
func refusal(res *http.Response) error {
	data, _ := io.ReadAll(io.LimitReader(res.Body, 8<<10))
	var body struct{ Error string }
	if json.Unmarshal(data, &body) != nil || body.Error == "" {
		body.Error = fmt.Sprintf("status %d", res.StatusCode)
	}
	text := oneLine(body.Error)
	switch {
	case diedWith(text):
		return &diedError{text}
	case res.StatusCode == http.StatusNotFound:
		return models.Fail(models.ErrNoModel, "this node does not hold the model: import it here, or see which there are with cloister model list")
	case res.StatusCode == http.StatusServiceUnavailable:
		return models.Fail(models.ErrBusy, "the model engine is busy: try again in a moment")
	case res.StatusCode == http.StatusBadRequest:
		return models.Fail(models.ErrInvalid, "the model cannot take this request: %s", text)
	default:
		return fmt.Errorf("%w: %s", models.ErrUnavailable, text)
	}
}

// diedError says that a runner ended during the call.
type diedError struct{ text string }

func (e *diedError) Error() string {
	return fmt.Sprintf("%v (%s): try again", models.ErrInterrupted, e.text)
}

func (e *diedError) Is(target error) bool { return target == models.ErrInterrupted }

// diedWith recognises what the child says when a runner has gone: it wraps the
// transport's errors as text.
func diedWith(text string) bool {
	for _, sign := range []string{
		"unexpected EOF", ": EOF", "connection refused", "connection reset", "broken pipe",
		"unexpectedly stopped", "no longer running", "runner process has terminated", "llama runner",
	} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

func died(err error) bool {
	var d *diedError
	return errors.As(err, &d)
}

// oneLine keeps the first line, bounded, with the loopback addresses of runners
// left out.
func oneLine(text string) string {
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	text = runnerURL.ReplaceAllString(text, "the runner")
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return strings.ToValidUTF8(text, "")
}

var runnerURL = regexp.MustCompile(`"?http://127\.0\.0\.1:\d+/\w*"?`)
