package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/budget"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/policy"
	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/models/engine"
	"github.com/cloister-os/cloister/models/engine/enginetest"
	"github.com/cloister-os/cloister/store/storetest"
)

// Sizes of the engine's benchmark.
const (
	engineRounds  = 5
	prefillBytes  = 400 // a byte is a token of the random model
	decodedTokens = 60
	benchModel    = "bench"
)

// engineSpeed runs the same random model (100 MB, Q8_0) in the engine as it is
// built and in one compiled without SIMD flags, in turn, on the same number of
// threads.
func engineSpeed(ctx context.Context, f *figures) error {
	scalar, err := scalarBuild(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "cloister-engine-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "model.gguf")
	if err := enginetest.Write(file, enginetest.Medium()); err != nil {
		return err
	}
	ours, err := openContestant(ctx, "build/cloister", filepath.Join(dir, "ours"), file)
	if err != nil {
		return fmt.Errorf("the engine: %w", err)
	}
	defer ours.engine.Close()
	plain, err := openContestant(ctx, scalar, filepath.Join(dir, "scalar"), file)
	if err != nil {
		return fmt.Errorf("the scalar engine: %w", err)
	}
	defer plain.engine.Close()
	for round := range engineRounds + 1 {
		for _, c := range []*contestant{ours, plain} {
			if err := c.run(ctx, round); err != nil {
				return err
			}
		}
	}
	for _, part := range []struct {
		name        string
		ours, plain []float64
	}{{"prefill", ours.prefill, plain.prefill}, {"decode", ours.decode, plain.decode}} {
		f.spread(part.name, part.ours, "tokens/s")
		f.spread(part.name+"_scalar", part.plain, "tokens/s")
		f.add(part.name+"_ratio", median(part.ours)/median(part.plain), "x")
		f.add(part.name+"_ratio_of_best", slices.Max(part.ours)/slices.Max(part.plain), "x") // least of what else the machine did
	}
	return nil
}

// scalarBuild compiles the binary without SIMD flags, once: the C++ code takes
// minutes.
func scalarBuild(ctx context.Context) (string, error) {
	const out = "build/bench/cloister-scalar"
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return "", err
	}
	fmt.Fprintln(os.Stderr, "Building the engine without SIMD flags to compare with (minutes the first time) …")
	cmd := exec.CommandContext(ctx, "nice", "go", "build", "-o", out, "./cmd/cloister")
	cmd.Env = append(os.Environ(), "CGO_CFLAGS=-O3", "CGO_CXXFLAGS=-O3")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return out, cmd.Run()
}

// contestant is one engine and what it has shown.
type contestant struct {
	engine          *engine.Engine
	door            *guard.Guard
	prefill, decode []float64
}

func openContestant(ctx context.Context, binary, dir, file string) (*contestant, error) {
	path, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	quiet := slog.New(slog.DiscardHandler)
	st := storetest.NewModel(nil)
	policies, err := policy.New(ctx, st, quiet)
	if err != nil {
		return nil, err
	}
	ledger, err := budget.NewLedger(ctx, st, quiet, nil)
	if err != nil {
		return nil, err
	}
	c := &contestant{}
	if err := policies.Seed(ctx); err != nil {
		return nil, err
	}
	if c.door, err = guard.New(guard.Config{Store: st, Policies: policies, Ledger: ledger, Logger: quiet}); err != nil {
		return nil, err
	}
	if c.engine, err = engine.Start(ctx, engine.Config{Dir: dir, Binary: path, Logger: quiet}); err != nil {
		return nil, err
	}
	return c, c.install(ctx, file)
}

func (c *contestant) install(ctx context.Context, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	digest := models.Digest(hex.EncodeToString(h.Sum(nil)))
	return c.do(ctx, auth.ModelManage, func(ctx context.Context, p *guard.Permit) error {
		if err := c.engine.Put(ctx, p, benchModel, digest, size, f); err != nil {
			return err
		}
		return c.engine.Create(ctx, p, models.Spec{Name: benchModel, Files: map[string]models.Digest{"model.gguf": digest}})
	})
}

func (c *contestant) do(ctx context.Context, action auth.Action, act func(context.Context, *guard.Permit) error) error {
	p := auth.Principal{Kind: auth.User, ID: "bench", Roles: []auth.Role{auth.Administrator}}
	return c.door.Do(ctx, guard.Request{Principal: p, Action: action, Resource: auth.Model(benchModel)},
		func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
			return guard.Outcome{}, act(ctx, permit)
		})
}

// run takes one sample of each; round 0 loads the model and counts for nothing.
func (c *contestant) run(ctx context.Context, round int) error {
	// Another prompt each time, or the engine finds it in its cache.
	fresh := fmt.Sprintf("%03d ", round) + strings.Repeat("cloister ", prefillBytes/9)
	began := time.Now()
	first, _, last, err := c.complete(ctx, fresh, 1)
	if err != nil {
		return err
	}
	prefill := float64(last.Usage.TokensIn) / first.Sub(began).Seconds()
	first, end, last, err := c.complete(ctx, "x", decodedTokens)
	if err != nil {
		return err
	}
	if last.Usage.TokensOut < decodedTokens/2 {
		return errors.New("the random model stopped early: its numbers mean nothing")
	}
	if round > 0 {
		c.prefill = append(c.prefill, prefill)
		c.decode = append(c.decode, float64(last.Usage.TokensOut-1)/end.Sub(first).Seconds())
	}
	return nil
}

// complete says when the first piece came and when the last.
func (c *contestant) complete(ctx context.Context, prompt string, tokens int) (first, end time.Time, last models.Chunk, err error) {
	seed := 1
	err = c.do(ctx, auth.ModelInfer, func(ctx context.Context, p *guard.Permit) error {
		for chunk, err := range c.engine.Complete(ctx, p, models.Prompt{Model: benchModel, Raw: prompt, MaxTokens: tokens, Seed: &seed}) {
			if err != nil {
				return err
			}
			if first.IsZero() {
				first = time.Now()
			}
			end, last = time.Now(), chunk
		}
		return nil
	})
	return first, end, last, err
}
