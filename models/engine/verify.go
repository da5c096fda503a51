package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/models"
)

// Verify implements models.Engine. A damaged file is removed, not
// changed: a runner may have it mapped.
func (e *Engine) Verify(ctx context.Context, permit *guard.Permit, model string) (damaged []models.Digest, err error) {
	if err := permit.Covers(auth.ModelManage, auth.Model(model)); err != nil {
		return nil, err
	}
	image, err := e.Image(ctx, model)
	if err != nil {
		return nil, err
	}
	for _, b := range image.Blobs {
		whole, err := e.whole(ctx, b.Digest)
		if err != nil {
			return damaged, err
		}
		if whole {
			continue
		}
		if err := os.Remove(e.config.blob(b.Digest)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return damaged, err
		}
		damaged = append(damaged, b.Digest)
	}
	return damaged, syncDir(e.config.blobs())
}

// whole reads a file and compares it with its digest. A file that is not there is
// as good as damaged.
func (e *Engine) whole(ctx context.Context, d models.Digest) (bool, error) {
	f, size, err := e.Open(d)
	if err != nil {
		return false, nil
	}
	defer f.Close()
	h := sha256.New()
	for at := int64(0); at < size; at += copyStep {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if _, err := io.CopyN(h, f, min(copyStep, size-at)); err != nil {
			return false, nil // a disk that cannot give it
		}
	}
	return hex.EncodeToString(h.Sum(nil)) == string(d), nil
}
