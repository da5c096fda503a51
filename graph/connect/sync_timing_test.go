package connect_test

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/graph/connect/connecttest"
	"github.com/cloister-os/cloister/graph/connect/transport/files"
	"github.com/cloister-os/cloister/graph/connect/transport/git"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/consensus"
)

func openStore(t testing.TB) store.Store {
	t.Helper()
	n, err := consensus.Open(t.Context(), consensus.Config{Dir: t.TempDir(), NodeID: "a", ReserveBytes: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	<-n.Ready()
	return n
}

// BenchmarkSyncFiles reports files/s of a first and of a second sync into the
// replicated store.
func BenchmarkSyncFiles(b *testing.B) {
	const n = 10_000
	dir := b.TempDir()
	for i := range n {
		path := filepath.Join(dir, fmt.Sprintf("d%02d", i%100), fmt.Sprintf("f%d.md", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(document(i)), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		measure(b, openStore(b), files.New(), dir, "files", n)
	}
}

// BenchmarkSyncGit reports commits/s likewise.
func BenchmarkSyncGit(b *testing.B) {
	const n = 5_000
	dir := b.TempDir()
	history(b, dir, n)
	for b.Loop() {
		measure(b, openStore(b), git.New(), dir, "commits", n)
	}
}

func measure(b *testing.B, st store.Store, c connect.Connector, dir, unit string, n int) {
	bench := connecttest.Open(b, st, c)
	at := time.Now()
	first := bench.Add(c.Kind(), "bench", dir)
	b.ReportMetric(float64(n)/time.Since(at).Seconds(), unit+"/s_first")
	at = time.Now()
	second := bench.Sync("bench")
	b.ReportMetric(float64(n)/time.Since(at).Seconds(), unit+"/s_second")
	b.ReportMetric(float64(first.Claims), "claims_first")
	b.ReportMetric(float64(second.Claims+second.Bodies), "claims+bodies_second")
}

func document(i int) string {
	var s strings.Builder
	fmt.Fprintf(&s, "# Document %d\n\nIt is about thing %d. ", i, i)
	for j := range 8 {
		fmt.Fprintf(&s, "\n\n## Part %d\n\nThe value of part %d in document %d is %d; it was set by hand. Another sentence follows it here.\n\n- one item\n- two items\n", j, j, i, i*j)
	}
	return s.String()
}

// history makes a repository of n commits with git fast-import: three files of
// five hundred in fifty folders change in each, and each hundredth is tagged.
func history(b testing.TB, dir string, n int) {
	var s strings.Builder
	for i := range n {
		fmt.Fprintf(&s, "commit refs/heads/main\nmark :%d\nauthor Author %d <a%d@example.org> %d +0000\ncommitter Author <a@example.org> %d +0000\ndata <<END\nChange %d\n\nA body line.\nEND\n",
			i+1, i%20, i%20, 1_700_000_000+i*60, 1_700_000_000+i*60, i)
		for j := range 3 {
			f := (i*7 + j*131) % 500
			text := fmt.Sprintf("package p%d\n%s// version %d\n", f, strings.Repeat("// a line of text\n", 30), i)
			fmt.Fprintf(&s, "M 100644 inline d%d/f%d.go\ndata %d\n%s\n", f%50, f, len(text), text)
		}
		if i%100 == 0 {
			fmt.Fprintf(&s, "reset refs/tags/v%d\nfrom :%d\n\n", i/100, i+1)
		}
	}
	for _, args := range [][]string{{"init", "-q", "--bare", "-b", "main", dir}, {"-C", dir, "fast-import", "--quiet"}} {
		cmd := exec.Command("git", args...)
		cmd.Stdin = strings.NewReader(s.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
}
