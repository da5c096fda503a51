package mainjob

import (
	"context"
	"io"
)

// Walk says what to walk over, and with which programs.
type Walk struct {
	Dir      string // an empty folder
	Binary   string // cloister
	Verifier string // cloister-verify
	Pack     string // "" = without any model
	Seed     uint64
	Log      io.Writer
}

// Measure walks up to the last question and returns how the answers were. It does
// not need a namespace, but the node's usual port must be free; it judges nothing.
func Measure(ctx context.Context, w Walk) (Score, error) {
	j := &job{dir: w.Dir, binary: w.Binary, verifier: w.Verifier, pack: w.Pack, seed: w.Seed, log: w.Log}
	r, err := j.walk(ctx, j.measured())
	return r.Score, err
}
