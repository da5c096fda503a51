// Command cloister-verify checks an exported bundle of audit records on a
// machine that has never seen the cluster.
//
// It promises: exit code 0 only when every byte of the bundle is what the
// holder of the log key exported and its records are the log's; otherwise one
// sentence on standard error says what is wrong and where. It reads the files
// it is given and nothing else, and needs no network.
//
// It may import auth/audit/proof and nothing else of Cloister, so that the whole
// of what an auditor must trust can be read in an afternoon.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cloister-os/cloister/auth/audit/proof"
)

// Exit codes.
const (
	exitVerified = 0
	exitRefused  = 1 // the bundle is not what it should be
	exitUsage    = 2 // it could not be examined: wrong arguments, unreadable files
)

const usage = `Usage: cloister-verify --log-key FINGERPRINT [--after FILE] [--json] BUNDLE

Checks a bundle that "cloister audit export" wrote.

  --log-key FINGERPRINT    the fingerprint of the log key, SHA256:…, from your own
                           notes of when the system was set up
  --after FILE             a checkpoint or a bundle that you took away earlier: the
                           log must still hold everything that it covers
  --json                   print the result as JSON

Exit code 0: verified. 1: refused, and why. 2: it could not be examined.
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// arguments is the command line.
type arguments struct {
	logKey, after, bundle string
	json                  bool
}

func parse(args []string) (arguments, error) {
	var a arguments
	set := flag.NewFlagSet("cloister-verify", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&a.logKey, "log-key", "", "")
	set.StringVar(&a.after, "after", "", "")
	set.BoolVar(&a.json, "json", false, "")
	// Flags may stand after the bundle too.
	var rest []string
	for len(args) > 0 {
		if err := set.Parse(args); err != nil {
			return a, err
		}
		if args = set.Args(); len(args) > 0 {
			rest, args = append(rest, args[0]), args[1:]
		}
	}
	switch {
	case a.logKey == "":
		return a, errors.New("give the log key's fingerprint that was noted at setup: --log-key SHA256:…")
	case len(rest) != 1:
		return a, fmt.Errorf("give one bundle to verify, not %d", len(rest))
	}
	a.bundle = rest[0]
	return a, nil
}

func run(args []string, out, errs io.Writer) int {
	a, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(out, usage)
		return exitVerified
	}
	if err != nil {
		fmt.Fprintf(errs, "cloister-verify: %v\nRun cloister-verify --help for the usage.\n", err)
		return exitUsage
	}
	report, err := verify(a)
	var problem *proof.Problem
	refused := errors.As(err, &problem)
	if err != nil && !refused {
		fmt.Fprintf(errs, "cloister-verify: %v\n", err)
		return exitUsage
	}
	if a.json {
		err = printJSON(out, report, !refused)
	} else if !refused {
		err = printText(out, report)
	}
	if refused {
		fmt.Fprintf(errs, "cloister-verify: NOT VERIFIED: %v\n", problem)
		return exitRefused
	}
	if err != nil {
		fmt.Fprintf(errs, "cloister-verify: the bundle verified, but the result could not be printed: %v\n", err)
		return exitUsage
	}
	return exitVerified
}

func verify(a arguments) (proof.Report, error) {
	options := proof.Options{LogKey: a.logKey}
	if a.after != "" {
		f, size, err := open(a.after)
		if err != nil {
			return proof.Report{}, fmt.Errorf("cannot read what you took away earlier: %w", err)
		}
		defer f.Close()
		if proof.IsBundle(f) {
			options.AfterBundle = io.NewSectionReader(f, 0, size)
		} else if options.After, err = readNote(f); err != nil {
			return proof.Report{}, err
		}
	}
	f, size, err := open(a.bundle)
	if err != nil {
		return proof.Report{}, fmt.Errorf("cannot read the bundle: %w", err)
	}
	defer f.Close()
	return proof.Verify(f, size, options)
}

func open(name string) (*os.File, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file: give one that cloister audit wrote", name)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// readNote reads a checkpoint file, forgiving what mail and editors do to the
// ends of lines. A checkpoint is short: what is longer is something else.
func readNote(f *os.File) ([]byte, error) {
	const limit = 64 << 10
	note, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, fmt.Errorf("cannot read the checkpoint: %w", err)
	}
	if len(note) == limit {
		return nil, fmt.Errorf("%s is too long to be a checkpoint: give the file that cloister audit checkpoint wrote", f.Name())
	}
	note = bytes.ReplaceAll(note, []byte("\r\n"), []byte("\n"))
	return append(bytes.TrimSpace(note), '\n'), nil
}

func printJSON(w io.Writer, r proof.Report, verified bool) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(struct {
		Verified bool `json:"verified"`
		proof.Report
	}{verified, r})
}

func printText(w io.Writer, r proof.Report) error {
	records := "no records"
	if r.Records > 0 {
		records = fmt.Sprintf("%d to %d (%d)", r.From, r.To-1, r.Records)
	}
	lines := [][2]string{
		{"log", r.Origin},
		{"records", records},
		{"in all", fmt.Sprintf("%d in the log, epoch %d", r.Size, r.Epoch)},
	}
	if r.First != nil {
		lines = append(lines, [2]string{"time", stamp(*r.First) + " to " + stamp(*r.Last)})
	}
	lines = append(lines,
		[2]string{"root", r.Root},
		[2]string{"checkpoint", stamp(r.Checkpoint)},
		[2]string{"signed by", r.Key},
	)
	if r.Keys > 1 {
		lines = append(lines, [2]string{"key history", fmt.Sprintf("%d keys, each handed over by the one before", r.Keys)})
	}
	if r.History > 0 {
		lines = append(lines, [2]string{"history", fmt.Sprintf("continues %d earlier checkpoints", r.History)})
	}
	for _, e := range r.Epochs {
		lines = append(lines, [2]string{e.How, restored(e)})
	}
	for _, c := range r.Cosigned {
		lines = append(lines, [2]string{"cosigned", fmt.Sprintf("by node %s, %d records, %s", c.Node, c.Size, stamp(c.Time))})
	}
	if r.Openings > 0 {
		lines = append(lines, [2]string{"personal", fmt.Sprintf("%d fields opened, as committed to", r.Openings)})
	}
	if r.After != nil {
		lines = append(lines, [2]string{"after", fmt.Sprintf("continues your checkpoint of %d records, %s", r.After.Size, stamp(r.After.Time))})
	}
	if _, err := fmt.Fprintln(w, "VERIFIED"); err != nil {
		return err
	}
	for _, l := range lines {
		if _, err := fmt.Fprintf(w, "  %-12s %s\n", l[0], l[1]); err != nil {
			return err
		}
	}
	return nil
}

// restored tells of an epoch after the first.
func restored(e proof.Epoch) string {
	lost := "how many records were lost is not known"
	if e.Lost >= 0 {
		lost = fmt.Sprintf("%d records lost", e.Lost)
	}
	return fmt.Sprintf("at %d from %s, %s (epoch %d, %s)", e.Size, e.From, lost, e.Number, stamp(e.Time))
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
