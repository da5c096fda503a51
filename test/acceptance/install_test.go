package acceptance

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloister-os/cloister/test/machine"
	"github.com/cloister-os/cloister/test/medium"
	"github.com/cloister-os/cloister/test/operator"
	"github.com/cloister-os/cloister/test/world"
)

// BenchmarkInstall measures how long an operator waits who types without a pause:
// from a machine that has just booted with the stick in it to the first cited
// answer, and from there to a cluster of three.
func BenchmarkInstall(b *testing.B) {
	if why := machine.Reason(); why != "" {
		b.Skip(why)
	}
	for b.Loop() {
		install(b)
	}
}

func install(b *testing.B) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Minute)
	defer cancel()
	stick := medium.New(b)
	dir := filepath.Join(b.TempDir(), "world")
	w, err := world.New(dir, 1)
	if err != nil {
		b.Fatal(err)
	}
	lan := machine.NewLAN(b)
	var nodes operator.Cluster
	for _, name := range []string{"node-1", "node-2", "node-3"} {
		m := lan.New(b, name, stick+":/media/stick", dir+":/srv/world")
		if err := m.Boot(ctx); err != nil {
			b.Fatal(err)
		}
		nodes = append(nodes, operator.On(m))
	}
	first, rpm := nodes[0], "/media/stick/"+filepath.Base(medium.Find(b, stick, "*.rpm"))
	q := question(b, w, "release", w.Documents)
	token := ""
	whole := time.Now()
	step := func(name string, do func() error) {
		b.Helper()
		began := time.Now()
		if err := do(); err != nil {
			b.Fatal(name, ": ", err)
		}
		b.ReportMetric(time.Since(began).Seconds(), name+"_s")
	}
	cli := func(args ...string) error {
		_, err := first.CLI(ctx, "", args...)
		return err
	}
	step("check", func() error {
		_, err := first.Run(ctx, "sh", "-c", "cd /media/stick && sha256sum --quiet -c SHA256SUMS")
		return err
	})
	step("install", func() error {
		_, err := first.Install(ctx, rpm)
		return err
	})
	step("start", func() error {
		if err := first.Configure("[cluster]", `peer = "`+first.Peer()+`"`); err != nil {
			return err
		}
		return first.Start(ctx)
	})
	step("setup", func() error { return first.Setup(ctx) })
	step("models", func() error { return cli("model", "import", "/media/stick/starter.pack", "--accept-licence") })
	step("sync", func() error {
		if err := cli("source", "add", "git", "code", "--path", "/srv/world/repository"); err != nil {
			return err
		}
		if err := cli("source", "add", "files", "docs", "--path", "/srv/world/documents"); err != nil {
			return err
		}
		if err := cli("source", "sync", "code", "--wait"); err != nil {
			return err
		}
		return cli("source", "sync", "docs", "--wait")
	})
	step("ask", func() (err error) {
		if token, err = first.Key(ctx, "asking", "code", "docs"); err != nil {
			return err
		}
		return first.Until(ctx, time.Minute, "the fact is cited", func() error {
			a, err := first.Ask(ctx, token, q.Wordings[0])
			if err != nil {
				return err
			}
			return a.Cites(q.Fact)
		})
	})
	b.ReportMetric(time.Since(whole).Minutes(), "first_answer_min")
	step("install_others", func() error { return nodes[1:].Install(ctx, rpm) })
	step("join", func() error {
		for _, n := range nodes[1:] {
			if err := n.Join(ctx, first); err != nil {
				return err
			}
		}
		return nil
	})
	step("vote", func() error { return first.AllVote(ctx, len(nodes)) })
	b.ReportMetric(time.Since(whole).Minutes(), "three_nodes_min")
}
