// Command tally reads `go test -json` from standard input, prints what failed
// and what was skipped, and ends with the line "N passed, N failed, N skipped".
//
// It fails when a test failed; and with CI=true also when a test was skipped that
// is not on the checked-in list (-skips), or when fewer tests passed than the
// checked-in floor (-floor), so that a test cannot vanish quietly.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

type result struct {
	pass, fail, skip int
	failed, skipped  []string
	output           map[string][]string
	slow             map[string]float64
}

func main() {
	floor := flag.String("floor", "test/tally/floor.txt", "file with the least number of tests that must pass")
	skips := flag.String("skips", "test/tally/skips.txt", "file with the tests that may be skipped in CI, one `package test` a line")
	flag.Parse()
	r := read(bufio.NewReader(os.Stdin))
	problems := r.problems(os.Getenv("CI") == "true", lines(*skips), number(*floor))
	r.print(problems)
	if len(problems) > 0 {
		os.Exit(1)
	}
}

func read(in *bufio.Reader) *result {
	r := &result{output: map[string][]string{}, slow: map[string]float64{}}
	started := time.Now()
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			r.add(line, started)
		}
		if err != nil {
			return r
		}
	}
}

func (r *result) add(line []byte, started time.Time) {
	var e event
	if json.Unmarshal(line, &e) != nil || e.Action == "" {
		fmt.Print(string(line)) // a compiler's words
		return
	}
	name := e.Package + " " + e.Test
	switch {
	case e.Action == "output":
		r.output[name] = kept(append(r.output[name], e.Output))
		return
	case e.Action == "build-output":
		fmt.Print(e.Output)
		return
	case e.Test == "" && e.Action == "pass":
		fmt.Printf("[%4.0fs] ok   %s %.1fs\n", time.Since(started).Seconds(), short(e.Package), e.Elapsed)
	case e.Test == "" && e.Action == "fail":
		fmt.Printf("[%4.0fs] FAIL %s %.1fs\n", time.Since(started).Seconds(), short(e.Package), e.Elapsed)
		r.failed = append(r.failed, name)
		r.fail++
	case e.Action == "pass":
		r.pass++
		r.slow[name] = e.Elapsed
		delete(r.output, name)
	case e.Action == "fail":
		r.fail++
		r.failed = append(r.failed, name)
	case e.Action == "skip" && e.Test != "":
		r.skip++
		r.skipped = append(r.skipped, name)
	}
}

// keptLines bounds what is kept of a test's output: its beginning and its end.
const keptLines = 400

func kept(output []string) []string {
	if len(output) <= keptLines {
		return output
	}
	return append(output[:keptLines/2], output[keptLines/2+1:]...)
}

// problems lists what makes the run fail beside failed tests.
func (r *result) problems(ci bool, allowed []string, floor int) []string {
	var out []string
	if r.fail > 0 {
		out = append(out, fmt.Sprintf("%d failed", r.fail))
	}
	if r.pass == 0 {
		out = append(out, "no test passed")
	}
	if !ci {
		return out
	}
	for _, s := range r.skipped {
		if !contains(allowed, s) {
			out = append(out, "skipped and not on the list: "+short(s)+": "+reason(r.output[s]))
		}
	}
	if r.pass < floor {
		out = append(out, fmt.Sprintf("%d tests passed, the floor is %d: tests vanished, or the floor must be lowered on purpose", r.pass, floor))
	}
	return out
}

func (r *result) print(problems []string) {
	for _, f := range r.failed {
		fmt.Printf("\n--- %s\n%s", short(f), strings.Join(r.output[f], ""))
	}
	r.summary()
	for _, s := range r.skipped {
		fmt.Printf("skipped %s: %s\n", short(s), reason(r.output[s]))
	}
	for _, p := range problems {
		fmt.Println("problem:", p)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", r.pass, r.fail, r.skip)
}

// summary says once more what the failed tests said of themselves, without what
// they kept of other programs: who reads only the end of the output reads this.
func (r *result) summary() {
	for _, f := range r.failed {
		var said []string
		for _, o := range r.output[f] {
			if own.MatchString(o) || strings.HasPrefix(o, "panic: ") {
				said = append(said, clipped(strings.TrimSpace(o)))
			}
		}
		if len(said) == 0 {
			continue
		}
		fmt.Printf("\nfailed %s\n", short(f))
		for _, s := range said[max(0, len(said)-lastWords):] {
			fmt.Println("   ", s)
		}
	}
}

// own is a line that begins what a test says.
var own = regexp.MustCompile(`^\s+[a-zA-Z0-9_]+\.go:[0-9]+: `)

// lastWords bounds the lines of one test in the summary, lineLimit the bytes of one.
const (
	lastWords = 16
	lineLimit = 400
)

func clipped(line string) string {
	if len(line) > lineLimit {
		return line[:lineLimit] + "…"
	}
	return line
}

func short(s string) string { return strings.TrimPrefix(s, "github.com/cloister-os/cloister/") }

func reason(output []string) string {
	for _, o := range output {
		if i := strings.Index(o, ".go:"); i >= 0 {
			return strings.TrimSpace(o[i:])
		}
	}
	return "no reason given"
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func lines(file string) []string {
	b, err := os.ReadFile(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(2)
	}
	var out []string
	for _, l := range strings.Split(string(b), "\n") {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") {
			out = append(out, l)
		}
	}
	return out
}

func number(file string) int {
	ls := lines(file)
	if len(ls) != 1 {
		fmt.Fprintf(os.Stderr, "tally: %s must hold one number\n", file)
		os.Exit(2)
	}
	n, err := strconv.Atoi(ls[0])
	if err != nil {
		fmt.Fprintf(os.Stderr, "tally: %s: %v\n", file, err)
		os.Exit(2)
	}
	return n
}
