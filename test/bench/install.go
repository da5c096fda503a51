package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// install measures on machines, which a test boots, from the medium that is there:
// make media. What takes the time is listed step by step.
func install(ctx context.Context, f *figures) error {
	const medium = "build/media"
	rpm, err := filepath.Glob(filepath.Join(medium, "*.rpm"))
	if err != nil || len(rpm) != 1 {
		return errors.New("there is no medium: run make media")
	}
	info, err := os.Stat(rpm[0])
	if err != nil {
		return err
	}
	f.add("rpm", float64(info.Size())/1e6, "MB")
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "Install", "-benchtime", "1x", "-timeout", "30m", "./test/acceptance")
	cmd.Env = append(os.Environ(), "CLOISTER_MEDIUM="+medium)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "BenchmarkInstall") {
			return f.reported(strings.Fields(line)[2:])
		}
	}
	return fmt.Errorf("nothing was measured: %s", out)
}

// reported adds what a benchmark of package testing prints: values, each before
// its METRIC_UNIT.
func (f *figures) reported(fields []string) error {
	for i := 0; i+1 < len(fields); i += 2 {
		value, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return fmt.Errorf("%q is no figure: %w", fields[i], err)
		}
		if at := strings.LastIndex(fields[i+1], "_"); at > 0 {
			f.add(fields[i+1][:at], value, fields[i+1][at+1:])
		}
	}
	return nil
}
