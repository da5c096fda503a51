package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/cloister-os/cloister/test/mainjob"
)

const answerSeeds = 5

// answers walks the main job over several worlds, with text search alone and
// with the starter pack, and reports quality and latency as a client sees them.
func answers(ctx context.Context, f *figures) error {
	for _, with := range []struct{ name, pack string }{{"text", ""}, {"starter", "build/packs/starter.pack"}} {
		if with.pack != "" {
			if _, err := os.Stat(with.pack); err != nil {
				fmt.Fprintln(os.Stderr, "bench: without a starter pack only text search is measured: run make starter")
				continue
			}
		}
		var s mainjob.Score
		for seed := range uint64(answerSeeds) {
			one, err := answerSeed(ctx, with.pack, seed+1)
			if err != nil {
				return err
			}
			s.Merge(one)
		}
		percent := func(metric string, n, of int) { f.add(with.name+"_"+metric, 100*float64(n)/float64(max(of, 1)), "%") }
		percent("evidence_holds_fact", s.Evidence, s.Asked)
		percent("evidence_holds_fact_own_wording", s.OwnEvidence, s.Own)
		percent("answer_says_it", s.Right, s.Asked)
		percent("graph_right_own_wording", s.GraphRight, s.Graph)
		percent("unanswerable_not_answered", s.Refused, s.Unanswerable)
		f.add(with.name+"_unsupported_tokens", float64(s.Unsupported), "count")
		ms := slices.Sorted(slices.Values(s.Milliseconds))
		f.add(with.name+"_latency_p50", ms[len(ms)/2], "ms")
		f.add(with.name+"_latency_p95", ms[len(ms)*95/100], "ms")
	}
	return nil
}

func answerSeed(ctx context.Context, pack string, seed uint64) (mainjob.Score, error) {
	dir, err := os.MkdirTemp("", "cloister-answer-")
	if err != nil {
		return mainjob.Score{}, err
	}
	defer os.RemoveAll(dir)
	if pack != "" {
		if pack, err = filepath.Abs(pack); err != nil {
			return mainjob.Score{}, err
		}
	}
	return mainjob.Measure(ctx, mainjob.Walk{Dir: dir, Binary: "build/cloister", Verifier: "build/cloister-verify", Pack: pack, Seed: seed, Log: io.Discard})
}
