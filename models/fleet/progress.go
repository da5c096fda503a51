package fleet

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/cloister-os/cloister/models/registry"
	"github.com/cloister-os/cloister/store/blob/exchange"
)

// progress tells the others how much of a model has come.
type progress struct {
	fleet *Fleet
	ctx   context.Context
	model registry.Model
	done  int64
	told  time.Time
}

func (p *progress) tell(now bool) {
	if !now && time.Since(p.told) < tellEvery {
		return
	}
	p.told = time.Now()
	s := registry.Standing{Stage: registry.Pulling, Digest: p.model.Digest, Done: p.done, Total: p.model.Image.Bytes()}
	if err := p.fleet.stand(p.ctx, p.model, s); err != nil && p.ctx.Err() == nil {
		p.fleet.cfg.Logger.Debug("The progress of a model could not be told.", "model", p.model.Name, "error", err)
	}
}

// counting counts what is read of a stream, also what is passed over, and keeps
// why reading failed.
type counting struct {
	*exchange.Stream
	progress *progress
	err      error
}

// Read implements io.Reader.
func (c *counting) Read(b []byte) (int, error) {
	n, err := c.Stream.Read(b)
	c.progress.done += int64(n)
	c.progress.tell(false)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

// Seek implements io.Seeker.
func (c *counting) Seek(offset int64, whence int) (int64, error) {
	before, _ := c.Stream.Seek(0, io.SeekCurrent)
	at, err := c.Stream.Seek(offset, whence)
	c.progress.done += at - before
	return at, err
}
