package mainjob

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/test/sink"
)

// TestMain is also the program that runs inside the namespace.
func TestMain(m *testing.M) {
	switch os.Getenv("MAINJOB") {
	case "walk":
		os.Exit(inside())
	case "dial":
		if c, err := net.DialTimeout("tcp", "192.0.2.9:443", time.Second); err == nil {
			c.Close()
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func inside() int {
	seed, err := strconv.ParseUint(os.Getenv("MAINJOB_SEED"), 10, 64)
	if err != nil {
		fmt.Println("MAINJOB_SEED:", err)
		return 2
	}
	j := &job{dir: os.Getenv("MAINJOB_DIR"), binary: os.Getenv("MAINJOB_BINARY"), verifier: os.Getenv("MAINJOB_VERIFIER"),
		pack: os.Getenv("MAINJOB_PACK"), checkout: os.Getenv("MAINJOB_CHECKOUT"), seed: seed, log: os.Stdout}
	ctx, cancel := context.WithTimeout(context.Background(), 9*time.Minute)
	defer cancel()
	steps := j.whole()
	switch os.Getenv("MAINJOB_WALK") {
	case "measured":
		steps = j.measured()
	case "three":
		j.trio = newTrio(j.dir, seed)
		steps = j.onThree()
	}
	r, err := j.walk(ctx, steps)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	b, err := json.Marshal(r)
	if err == nil {
		err = os.WriteFile(filepath.Join(j.dir, "report.json"), b, 0o600)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func TestMainJobWithTextSearchAlone(t *testing.T) { mainJob(t, "", "") }

// TestMainJobOnOurselves asks about this project's own history and documentation.
func TestMainJobOnOurselves(t *testing.T) {
	checkout, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("git", "-C", checkout, "rev-parse", "--is-shallow-repository").Output(); err != nil || strings.TrimSpace(string(out)) != "false" {
		t.Skip("this checkout has no whole history to ask about")
	}
	mainJob(t, "", checkout)
}

func TestMainJobWithTheStarterPack(t *testing.T) {
	pack := built(t, "packs/starter.pack")
	if _, err := os.Stat(pack); err != nil {
		t.Skip("there is no starter pack: run make starter")
	}
	mainJob(t, pack, "")
}

// built is the path of something that make has built.
func built(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../build", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func mainJob(t *testing.T, pack, checkout string) {
	if why := sink.Reason(); why != "" {
		t.Skip(why)
	}
	seed := seeded(t)
	s := sink.New(t)
	r := walkInside(t, s, "whole", pack, checkout, seed)
	if frames := s.Frames(); len(frames) > 0 {
		t.Errorf("%d packets left the building, the first of them: %s", len(frames), frames[0])
	}
	judge(t, r)
	planted(t, s)
}

// seeded is the environment's seed, or a new one.
func seeded(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("CLOISTER_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d (repeat with CLOISTER_SEED=%d)", seed, seed)
	return seed
}

func walkInside(t *testing.T, s *sink.Sink, walk, pack, checkout string, seed uint64) *report {
	t.Helper()
	dir := t.TempDir()
	cmd := s.Command(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "MAINJOB=walk", "MAINJOB_WALK="+walk, "MAINJOB_DIR="+dir, fmt.Sprintf("MAINJOB_SEED=%d", seed), "MAINJOB_PACK="+pack, "MAINJOB_CHECKOUT="+checkout,
		"MAINJOB_BINARY="+built(t, "cloister"), "MAINJOB_VERIFIER="+built(t, "cloister-verify"))
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

// planted shows that a packet which leaves would have been seen.
func planted(t *testing.T, s *sink.Sink) {
	t.Helper()
	cmd := s.Command(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "MAINJOB=dial")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if len(s.Frames()) == 0 {
		t.Error("the sink did not see a planted dial, so seeing nothing proves nothing")
	}
}

func judge(t *testing.T, r *report) {
	t.Helper()
	s := r.Score
	for _, k := range slices.Sorted(maps.Keys(s.ByShape)) {
		t.Logf("%-16s %d of %d", k, s.ByShape[k][0], s.ByShape[k][1])
	}
	s.Judge(t)
	for name, wrong := range r.Facts {
		if wrong != "" {
			t.Errorf("it is not so that %s: %s", name, wrong)
		}
	}
}
