// Command bench measures one promise of Cloister in one interleaved run beside
// its floor or its peer, prints a line `<name> <metric> <value> <unit>` for each
// figure, and writes them as JSON. Nothing is asserted: RESULTS.md says what was
// seen and what falls short.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// figure is one measured value.
type figure struct {
	Metric string  `json:"metric"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
}

// figures is what a benchmark saw.
type figures []figure

func (f *figures) add(metric string, value float64, unit string) {
	*f = append(*f, figure{metric, value, unit})
}

// spread adds the median, the least and the greatest of several samples.
func (f *figures) spread(metric string, samples []float64, unit string) {
	s := slices.Sorted(slices.Values(samples))
	f.add(metric+"_p50", median(s), unit)
	f.add(metric+"_min", s[0], unit)
	f.add(metric+"_max", s[len(s)-1], unit)
}

func median(samples []float64) float64 {
	return slices.Sorted(slices.Values(samples))[len(samples)/2]
}

// points adds the median, the 99th percentile and the greatest of many samples.
func (f *figures) points(metric string, samples []float64, unit string) {
	s := slices.Sorted(slices.Values(samples))
	f.add(metric+"_p50", s[len(s)/2], unit)
	f.add(metric+"_p99", s[min(len(s)-1, len(s)*99/100)], unit)
	f.add(metric+"_max", s[len(s)-1], unit)
}

type benchmark struct {
	name, what string
	run        func(ctx context.Context, f *figures) error
}

func benchmarks() []benchmark {
	return []benchmark{
		{"boot", "start to ready, and memory when idle, without a model", boot},
		{"apply", "durable transactions beside fdatasync", apply},
		{"store", "three nodes beside etcd and rqlite", replicated},
		{"failover", "how long nothing is written when the leader is killed, and when it hands over", failover},
		{"snapshot", "writes while the leader stages its state, in turn with writes alone", snapshots},
		{"mix", "guarded transactions, journaled runs and bulk ingest, each alone and together", mix},
		{"restart", "ready again with much state, and memory", restarts},
		{"login", "people of a directory sign in, beside bare binds", logins},
		{"engine", "tokens per second beside a scalar build", engineSpeed},
		{"answer", "quality and latency of answers", answers},
		{"install", "from the medium to the first cited answer, and to three nodes", install},
		{"sync", "files and commits per second, first and second sync", syncs},
	}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "load" {
		if err := generate(context.Background(), os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "load:", err)
			os.Exit(1)
		}
		return
	}
	name := flag.String("name", "", "which benchmark")
	out := flag.String("out", "build/bench", "folder for the JSON")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := measure(ctx, *name, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, name, out string) error {
	var names []string
	for _, b := range benchmarks() {
		names = append(names, b.name)
		if b.name != name {
			continue
		}
		var f figures
		if err := b.run(ctx, &f); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, x := range f {
			fmt.Printf("%s %s %.4g %s\n", name, x.Metric, x.Value, x.Unit)
		}
		return save(filepath.Join(out, name+".json"), b, f)
	}
	return fmt.Errorf("there is no benchmark %q; there are: %s", name, strings.Join(names, " "))
}

func save(file string, b benchmark, f figures) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	doc := map[string]any{"name": b.name, "what": b.what, "date": time.Now().UTC().Format(time.RFC3339), "cpus": runtime.NumCPU(), "go": runtime.Version(), "figures": f}
	text, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
