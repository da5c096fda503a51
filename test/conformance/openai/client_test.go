// Package openai_test lets the unmodified OpenAI client for Python talk to the
// model gateway over a real engine: what an application sees is what is tested.
package openai_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/budget"
	"github.com/cloister-os/cloister/models/engine/enginetest"
)

// python returns an interpreter that has the client, installing it once under
// build/ from the versions pinned in testdata.
var python = sync.OnceValues(func() (string, error) {
	dir, err := filepath.Abs(filepath.Join("..", "..", "..", "build", ".clients", "openai"))
	if err != nil {
		return "", err
	}
	interpreter := filepath.Join(dir, "bin", "python")
	want, err := os.ReadFile(filepath.Join("testdata", "requirements.txt"))
	if err != nil {
		return "", err
	}
	done := filepath.Join(dir, "installed.txt")
	if have, err := os.ReadFile(done); err == nil && string(have) == string(want) {
		return interpreter, nil
	}
	for _, command := range [][]string{
		{"python3", "-m", "venv", dir},
		{interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", filepath.Join("testdata", "requirements.txt")},
	} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w: %s", strings.Join(command[:3], " "), err, out)
		}
	}
	return interpreter, os.WriteFile(done, want, 0o644)
})

// client prepares a scene of testdata/client.py.
func (h *house) client(t *testing.T, key, scene string) *exec.Cmd {
	t.Helper()
	interpreter, err := python()
	if err != nil {
		t.Skipf("the OpenAI client for Python cannot be installed: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), interpreter, filepath.Join("testdata", "client.py"), h.server.URL, key, scene)
	cmd.Stderr = os.Stderr
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "PYTHONDONTWRITEBYTECODE=1"}
	return cmd
}

// play runs a scene and decodes what it saw.
func (h *house) play(t *testing.T, key, scene string, into any) {
	t.Helper()
	out, err := h.client(t, key, scene).Output()
	if err != nil {
		t.Fatalf("scene %s: %v", scene, err)
	}
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatalf("scene %s said %s: %v", scene, out, err)
	}
}

type seen struct {
	Text, Role, Finish, Model, ID string
	In, Out, Total, Cost          int64
	Pieces                        int
	Roles                         []string
}

func TestTheClientCompletesAndStreams(t *testing.T) {
	h := open(t)
	h.random(t, enginetest.Tiny())
	var whole, stream seen
	h.play(t, "model-key", "whole", &whole)
	if whole.Role != "assistant" || whole.Finish != "length" || whole.Out != 24 || whole.In < 20 || whole.Total != whole.In+whole.Out || whole.Cost <= 0 || whole.Model != "random" {
		t.Errorf("whole: %+v", whole)
	}
	h.play(t, "model-key", "stream", &stream)
	if stream.Finish != "length" || stream.Out != 24 || stream.In != whole.In || stream.Cost <= 0 || stream.Pieces < 2 || len(stream.Roles) != 1 {
		t.Errorf("stream: %+v", stream)
	}
	if stream.Text != whole.Text {
		t.Errorf("the same seed streamed %q and answered %q", stream.Text, whole.Text)
	}
	h.ledgerHolds(t, whole.In+stream.In, whole.Out+stream.Out, whole.Cost+stream.Cost)
}

// ledgerHolds compares the ledger's totals of the model, and the audit log's
// outcomes, with what the engine reported.
func (h *house) ledgerHolds(t *testing.T, in, out, cost int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var total budget.Total
	for ctx.Err() == nil { // outcomes of reads are batched
		var err error
		total, err = h.Ledger().Of(ctx, budget.ByModel, "random", time.Now().Add(-24*time.Hour), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if total.TokensIn == in {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	if total.TokensIn != in || total.TokensOut != out || total.Cost != cost {
		t.Errorf("the ledger holds %+v, the engine counted %d in, %d out, %d nano-dollars", total, in, out, cost)
	}
	var recorded int64
	for _, r := range h.Records(t) {
		if r.Kind == audit.Outcome && r.Action == auth.ModelInfer {
			recorded += r.CostNanoUSD
		}
	}
	if recorded != cost {
		t.Errorf("the audit log's outcomes cost %d, the calls %d", recorded, cost)
	}
}

func TestTheClientGetsVectors(t *testing.T) {
	h := open(t)
	h.starter(t)
	var got struct {
		Vectors, Dimensions int
		Same                bool
		Length              float64
		In                  int64
		Model               string
	}
	h.play(t, "model-key", "embed", &got)
	if got.Vectors != 2 || got.Dimensions != 384 || !got.Same || math.Abs(got.Length-1) > 1e-3 || got.In < 8 || got.Model != "all-minilm-l6-v2" {
		t.Errorf("%+v", got)
	}
	var list struct {
		IDs []string
		One string
	}
	h.play(t, "model-key", "models", &list)
	if want := "all-minilm-l6-v2 gemma3-270m default embedding"; strings.Join(list.IDs, " ") != want || list.One != "default" {
		t.Errorf("models %v, want %s", list.IDs, want)
	}
	var stream seen
	h.play(t, "model-key", "stream", &stream)
	if stream.Out < 1 || stream.Out > 24 || stream.In < 5 || stream.Text == "" {
		t.Errorf("the starter model streamed %+v", stream)
	}
	t.Logf("the starter model said %q", stream.Text)
}

func TestARunnerKilledInMidStreamEndsTheStreamWithAnError(t *testing.T) {
	h := open(t)
	h.random(t, enginetest.Slow())
	cmd := h.client(t, "model-key", "interrupted")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if first, err := lines.ReadString('\n'); err != nil || first != "streaming\n" {
		t.Fatalf("the client said %q, %v", first, err)
	}
	h.killRunners(t)
	rest, err := io.ReadAll(lines)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the client: %v: %s", err, rest)
	}
	var got struct {
		Error, Message, Code string
		Text                 int
	}
	report := rest[strings.LastIndexByte(strings.TrimSpace(string(rest)), '\n')+1:]
	if err := json.Unmarshal(report, &got); err != nil {
		t.Fatalf("%s: %v", report, err)
	}
	if got.Error != "APIError" || got.Code != "model_interrupted" || got.Text == 0 || !strings.Contains(got.Message, "try again") {
		t.Errorf("the client saw %+v", got)
	}
	var next seen
	h.play(t, "model-key", "whole", &next)
	if next.Out != 24 {
		t.Errorf("the next call: %+v", next)
	}
	if s := h.engine.Status(); s.Restarts != 0 {
		t.Errorf("the engine itself ended: %+v", s)
	}
}

// killRunners kills every runner of the engine.
func (h *house) killRunners(t *testing.T) {
	t.Helper()
	group := h.engine.Status().Pid
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	for _, entry := range entries {
		var pid int
		if _, err := fmt.Sscan(entry.Name(), &pid); err != nil || pid == group {
			continue
		}
		if g, err := syscall.Getpgid(pid); err == nil && g == group {
			killed++
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}
	if killed == 0 {
		t.Fatal("the engine has no runner")
	}
}

type refusal struct {
	Class, Code, Param, Message string
	Status                      int
	Policies                    []string
}

func TestTheClientIsToldWhy(t *testing.T) {
	h := open(t)
	h.random(t, enginetest.Tiny())
	cases := []struct {
		key, scene, class, code string
		status                  int
	}{
		{"ask-key", "chat", "PermissionDeniedError", "policy_denied", 403},
		{"ask-key", "stream", "PermissionDeniedError", "policy_denied", 403},
		{"ask-key", "embed", "PermissionDeniedError", "policy_denied", 403},
		{"ask-key", "list", "PermissionDeniedError", "policy_denied", 403},
		{"ask-key", "absent", "PermissionDeniedError", "policy_denied", 403},
		{"no-key", "chat", "AuthenticationError", "invalid_api_key", 401},
		{"model-key", "absent", "NotFoundError", "model_not_found", 404},
		{"model-key", "embed", "NotFoundError", "model_not_found", 404},
		{"model-key", "temperature", "BadRequestError", "invalid_value", 400},
	}
	replies := map[string]map[string]*refusal{}
	for _, c := range cases {
		if replies[c.key] == nil {
			replies[c.key] = map[string]*refusal{}
			into := replies[c.key]
			h.play(t, c.key, "refused", &into)
		}
		got := replies[c.key][c.scene]
		if got == nil || got.Class != c.class || got.Code != c.code || got.Status != c.status {
			t.Errorf("%s, %s: %+v, want %s %s", c.key, c.scene, got, c.class, c.code)
			continue
		}
		if c.status == http.StatusForbidden && (len(got.Policies) == 0 || !strings.Contains(got.Message, got.Policies[0])) {
			t.Errorf("%s, %s: the refusal names no policy: %+v", c.key, c.scene, got)
		}
	}
	refusals := 0
	for _, r := range h.Records(t) {
		if r.Kind == audit.Refusal {
			refusals++
		}
	}
	if refusals != 5 {
		t.Errorf("%d refusals on record, want 5", refusals)
	}
}
