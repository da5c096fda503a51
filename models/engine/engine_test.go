package engine_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/models/engine"
	"github.com/cloister-os/cloister/models/engine/child"
	"github.com/cloister-os/cloister/models/engine/enginetest"
)

// TestMain is also the child and its runners: the engine starts this program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "engine":
			os.Exit(child.Main())
		case "runner":
			os.Exit(child.Runner(os.Args[1:]))
		}
	}
	os.Exit(m.Run())
}

// bench is an engine with a guard to act through.
type bench struct {
	*engine.Engine
	t     *testing.T
	house *guardtest.House
	dir   string
}

func start(t *testing.T) *bench { return startWith(t, engine.Config{}) }

func startWith(t *testing.T, c engine.Config) *bench {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "engine")
	c.Dir, c.Logger = dir, slog.New(slog.DiscardHandler)
	e, err := engine.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return &bench{Engine: e, t: t, house: guardtest.Open(t, nil), dir: dir}
}

// with runs an act under a permit for it.
func (b *bench) with(action auth.Action, model string, act func(context.Context, *guard.Permit) error) error {
	req := guard.Request{Principal: guardtest.Admin(), Action: action, Resource: auth.Model(model)}
	return b.house.Do(b.t.Context(), req, func(ctx context.Context, p *guard.Permit) (guard.Outcome, error) {
		err := act(ctx, p)
		if err != nil {
			return guard.Outcome{Status: "failed", Error: "failed"}, err
		}
		return guard.Outcome{Status: "ok"}, nil
	})
}

// install puts a random model into the engine and returns its digest.
func (b *bench) install(name string, shape enginetest.Shape) models.Digest {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), "model.gguf")
	if err := enginetest.Write(path, shape); err != nil {
		b.t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	digest := hexDigest(data)
	err = b.with(auth.ModelManage, name, func(ctx context.Context, p *guard.Permit) error {
		if err := b.Put(ctx, p, name, digest, int64(len(data)), strings.NewReader(string(data))); err != nil {
			return err
		}
		return b.Create(ctx, p, models.Spec{
			Name: name, Files: map[string]models.Digest{"model.gguf": digest},
			Template: "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}assistant:",
		})
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return digest
}

// complete runs a completion; on is called with each chunk.
func (b *bench) complete(p models.Prompt, on func(models.Chunk)) (last models.Chunk, err error) {
	err = b.with(auth.ModelInfer, p.Model, func(ctx context.Context, permit *guard.Permit) error {
		for chunk, err := range b.Complete(ctx, permit, p) {
			if err != nil {
				return err
			}
			if on != nil {
				on(chunk)
			}
			last = chunk
		}
		return nil
	})
	return last, err
}

func (b *bench) embed(model string, texts ...string) (vectors [][]float32, usage models.Usage, err error) {
	err = b.with(auth.ModelEmbed, model, func(ctx context.Context, p *guard.Permit) (err error) {
		vectors, usage, err = b.Embed(ctx, p, model, texts)
		return err
	})
	return vectors, usage, err
}

func hexDigest(data []byte) models.Digest {
	sum := sha256.Sum256(data)
	return models.Digest(hex.EncodeToString(sum[:]))
}

var zero = 0.0

func TestACompletionStreamsAndIsCounted(t *testing.T) {
	b := start(t)
	b.install("m", enginetest.Tiny())
	for name, p := range map[string]models.Prompt{
		"messages": {Messages: []models.Message{{Role: "system", Content: "be brief"}, {Role: "user", Content: "hello"}}},
		"raw":      {Raw: "once upon a time"},
	} {
		t.Run(name, func(t *testing.T) {
			seed := 7
			p.Model, p.MaxTokens, p.Seed = "m", 60, &seed
			var pieces int
			last, err := b.complete(p, func(models.Chunk) { pieces++ })
			if err != nil {
				t.Fatal(err)
			}
			if !last.Done || last.Reason != "length" || last.Usage.TokensOut != 60 || last.Usage.TokensIn < 10 || last.Usage.CPU <= 0 {
				t.Errorf("last chunk %+v", last)
			}
			if pieces < 3 {
				t.Errorf("%d pieces, want them to stream", pieces)
			}
		})
	}
}

func TestNothingHappensWithoutAPermitForIt(t *testing.T) {
	b := start(t)
	b.install("m", enginetest.Tiny())
	err := b.with(auth.ModelEmbed, "m", func(ctx context.Context, p *guard.Permit) error {
		for _, err := range b.Complete(ctx, p, models.Prompt{Model: "m", Raw: "x"}) {
			if !errors.Is(err, auth.ErrDenied) {
				t.Errorf("Complete under a permit to embed: %v", err)
			}
		}
		if _, _, err := b.Embed(ctx, p, "other", []string{"x"}); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("Embed by another model: %v", err)
		}
		if err := b.Put(ctx, p, "m", hexDigest(nil), 0, strings.NewReader("")); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("Put: %v", err)
		}
		if err := b.Create(ctx, p, models.Spec{Name: "m"}); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("Create: %v", err)
		}
		if err := b.Discard(ctx, p, "m", nil); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("Discard: %v", err)
		}
		if err := b.Delete(ctx, p, "m"); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("Delete: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Embed(t.Context(), nil, "m", []string{"x"}); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("Embed without a permit: %v", err)
	}
}

func TestVectorsHaveLengthOneWhateverTheTextsLength(t *testing.T) {
	b := start(t)
	b.install("m", enginetest.Tiny())
	texts := []string{"a short text", "", strings.Repeat("many words ", 300), strings.Repeat("ü", 2000)}
	vectors, usage, err := b.embed("m", texts...)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range vectors {
		var sum float64
		for _, x := range v {
			sum += float64(x) * float64(x)
		}
		if len(v) != 64 || math.Abs(sum-1) > 1e-3 {
			t.Errorf("text %d: %d numbers of square length %v", i, len(v), sum)
		}
	}
	if total := int64(len(strings.Join(texts, ""))); usage.TokensIn < total/2 || usage.CPU <= 0 {
		t.Errorf("usage %+v for %d single-byte tokens", usage, total)
	}
	again, _, err := b.embed("m", texts[2])
	if err != nil || math.Abs(float64(again[0][0]-vectors[2][0])) > 1e-4 {
		t.Errorf("alone it has another vector: %v, %v and %v", err, again[0][0], vectors[2][0])
	}
}

func TestKillingTheRunnerFailsOneCallAndNothingElse(t *testing.T) {
	b := start(t)
	b.install("m", enginetest.Slow())
	killed := false
	_, err := b.complete(models.Prompt{Model: "m", Raw: "x", MaxTokens: 4000, Temperature: &zero}, func(models.Chunk) {
		if !killed {
			killed = true
			kill(t, b.Status().Pid, "runner")
		}
	})
	if !errors.Is(err, models.ErrInterrupted) || !strings.Contains(err.Error(), "try again") {
		t.Fatalf("the call whose runner was killed: %v", err)
	}
	if last, err := b.complete(models.Prompt{Model: "m", Raw: "x", MaxTokens: 3}, nil); err != nil || last.Usage.TokensOut != 3 {
		t.Fatalf("the next call: %+v, %v", last, err)
	}
	if s := b.Status(); s.Restarts != 0 {
		t.Fatalf("the engine itself ended: %+v", s)
	}
}

func TestTheEngineComesBackWhenItsProcessIsKilled(t *testing.T) {
	b := start(t)
	b.install("m", enginetest.Slow())
	first := b.Status()
	var runner int
	_, err := b.complete(models.Prompt{Model: "m", Raw: "x", MaxTokens: 4000}, func(models.Chunk) {
		if runner == 0 {
			runner = children(t, first.Pid, "runner")[0]
			if err := syscall.Kill(first.Pid, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	})
	if !errors.Is(err, models.ErrInterrupted) {
		t.Fatalf("the call whose engine was killed: %v", err)
	}
	if last, err := b.complete(models.Prompt{Model: "m", Raw: "x", MaxTokens: 3}, nil); err != nil || last.Usage.TokensOut != 3 {
		t.Fatalf("the next call: %+v, %v", last, err)
	}
	if s := b.Status(); s.Restarts != 1 || s.Pid == first.Pid {
		t.Fatalf("after a restart: %+v", s)
	}
	waitGone(t, runner)
}

func TestAnEngineThatHangsIsReplaced(t *testing.T) {
	b := startWith(t, engine.Config{Health: 100 * time.Millisecond})
	b.install("m", enginetest.Tiny())
	pid := b.Status().Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// The call that hangs fails, or is sent again when it had not been read.
	if _, err := b.complete(models.Prompt{Model: "m", Raw: "x", MaxTokens: 1}, nil); err != nil && !errors.Is(err, models.ErrUnavailable) && !errors.Is(err, models.ErrInterrupted) {
		t.Fatalf("the call that hung: %v", err)
	}
	if last, err := b.complete(models.Prompt{Model: "m", Raw: "x", MaxTokens: 1}, nil); err != nil || last.Usage.TokensOut != 1 {
		t.Fatalf("the next call: %+v, %v", last, err)
	}
	if s := b.Status(); s.Pid == pid {
		t.Fatalf("the child that hung is still there: %+v", s)
	}
	waitGone(t, pid)
}

func TestNoProcessOutlivesTheEngine(t *testing.T) {
	b := start(t)
	b.install("m", enginetest.Tiny())
	if _, err := b.complete(models.Prompt{Model: "m", Raw: "x", MaxTokens: 1}, nil); err != nil {
		t.Fatal(err)
	}
	pid := b.Status().Pid
	runner := children(t, pid, "runner")[0]
	b.Close()
	waitGone(t, pid)
	waitGone(t, runner)
	if _, err := b.complete(models.Prompt{Model: "m", Raw: "x"}, nil); !errors.Is(err, models.ErrUnavailable) {
		t.Fatalf("a call after Close: %v", err)
	}
}

func TestTheEngineHasNoNetworkButItsOwn(t *testing.T) {
	b := start(t)
	if _, err := b.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := b.Status()
	if !s.Isolated {
		t.Skip("the kernel gives this user no network namespace")
	}
	ours, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", s.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if ours == its {
		t.Fatal("the engine is in our network namespace")
	}
	links, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", s.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(links), ":"); n != 1 || !strings.Contains(string(links), "lo:") {
		t.Errorf("the engine sees interfaces:\n%s", links)
	}
}

func TestRunnersAreConfined(t *testing.T) {
	t.Setenv("CLOISTER_TEST_SECRET", "in our environment")
	b := start(t)
	b.install("m", enginetest.Tiny())
	if _, err := b.complete(models.Prompt{Model: "m", Raw: "x", MaxTokens: 1}, nil); err != nil {
		t.Fatal(err)
	}
	runner := children(t, b.Status().Pid, "runner")[0]
	for file, want := range map[string]*regexp.Regexp{
		"limits":        regexp.MustCompile(`Max core file size +[01] +[01] `), // bytes: see child's confine
		"oom_score_adj": regexp.MustCompile(`^500`),
	} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", runner, file))
		if err != nil || !want.Match(data) {
			t.Errorf("%s of a runner lacks %q: %v", file, want, err)
		}
	}
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", runner))
	if err != nil || strings.Contains(string(environment), "CLOISTER_TEST_SECRET") {
		t.Errorf("a runner sees our environment (%v)", err)
	}
}

func TestWithoutANetworkOfItsOwnItRunsToo(t *testing.T) {
	b := startWith(t, engine.Config{OpenNet: true})
	b.install("m", enginetest.Tiny())
	if last, err := b.complete(models.Prompt{Model: "m", Raw: "x", MaxTokens: 2}, nil); err != nil || last.Usage.TokensOut != 2 {
		t.Fatalf("%+v, %v", last, err)
	}
	if b.Status().Isolated {
		t.Error("it says that it has a network of its own")
	}
}

func TestAModelThatIsReplacedGivesItsDiskBack(t *testing.T) {
	b := start(t)
	old := b.install("m", enginetest.Tiny())
	other := enginetest.Tiny()
	other.Seed = 2
	b.install("m", other)
	if _, err := os.Stat(filepath.Join(b.dir, "models", "blobs", "sha256-"+string(old))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the weights of the former model are still there: %v", err)
	}
	if last, err := b.complete(models.Prompt{Model: "m", Raw: "x", MaxTokens: 2}, nil); err != nil || last.Usage.TokensOut != 2 {
		t.Fatalf("the model that replaced it: %+v, %v", last, err)
	}
}

func TestWhatTheNodeDoesNotHoldIsSaidSo(t *testing.T) {
	b := start(t)
	if _, err := b.complete(models.Prompt{Model: "absent", Raw: "x"}, nil); !errors.Is(err, models.ErrNoModel) {
		t.Errorf("completion: %v", err)
	}
	if _, _, err := b.embed("absent", "x"); !errors.Is(err, models.ErrNoModel) {
		t.Errorf("embedding: %v", err)
	}
	if _, err := b.complete(models.Prompt{Model: "../x", Raw: "x"}, nil); !errors.Is(err, models.ErrInvalid) {
		t.Errorf("a name that is a path: %v", err)
	}
}

func TestBlobsAreCheckedResumedAndCleanedUp(t *testing.T) {
	b := start(t)
	data := strings.Repeat("0123456789abcdef", 1<<16)
	digest := hexDigest([]byte(data))
	put := func(r io.Reader) error {
		return b.with(auth.ModelManage, "m", func(ctx context.Context, p *guard.Permit) error {
			return b.Put(ctx, p, "m", digest, int64(len(data)), r)
		})
	}
	partial := filepath.Join(b.dir, "partial", string(digest))
	if err := put(strings.NewReader(data[:len(data)/2])); err == nil {
		t.Fatal("half a blob was taken")
	}
	if info, err := os.Stat(partial); err != nil || info.Size() == 0 {
		t.Fatalf("nothing is left to resume: %v", err)
	}
	if err := os.WriteFile(partial, []byte("rotten"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := put(strings.NewReader(data)); err != nil {
		t.Fatalf("resuming over a rotten beginning: %v", err)
	}
	wrong := strings.Replace(data, "f", "x", 1)
	if err := b.with(auth.ModelManage, "m", func(ctx context.Context, p *guard.Permit) error {
		return b.Discard(ctx, p, "m", []models.Digest{digest})
	}); err != nil {
		t.Fatal(err)
	}
	if err := put(strings.NewReader(wrong)); !errors.Is(err, models.ErrInvalid) {
		t.Fatalf("a blob with another content: %v", err)
	}
	for _, dir := range []string{"partial", "models/blobs"} {
		if left, _ := os.ReadDir(filepath.Join(b.dir, dir)); len(left) != 0 {
			t.Errorf("%s still holds %v", dir, left)
		}
	}
}

func TestDeletingAModelFreesItsDisk(t *testing.T) {
	b := start(t)
	b.install("one", enginetest.Tiny())
	b.install("two", enginetest.Tiny())
	remove := func(name string) {
		if err := b.with(auth.ModelManage, name, func(ctx context.Context, p *guard.Permit) error { return b.Delete(ctx, p, name) }); err != nil {
			t.Fatal(err)
		}
	}
	remove("one")
	if last, err := b.complete(models.Prompt{Model: "two", Raw: "x", MaxTokens: 2}, nil); err != nil || last.Usage.TokensOut != 2 {
		t.Fatalf("the model that shares the weights: %+v, %v", last, err)
	}
	remove("two")
	if left, _ := os.ReadDir(filepath.Join(b.dir, "models", "blobs")); len(left) != 0 {
		t.Errorf("blobs still hold %v", left)
	}
	if list, err := b.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("still listed: %v, %v", list, err)
	}
}

func TestAFullDiskIsRefusedBeforeAByteIsWritten(t *testing.T) {
	b := start(t)
	err := b.with(auth.ModelManage, "m", func(ctx context.Context, p *guard.Permit) error {
		return b.Put(ctx, p, "m", hexDigest([]byte("x")), 1<<50, strings.NewReader("x"))
	})
	if !errors.Is(err, models.ErrNoSpace) || !strings.Contains(err.Error(), "must stay free") {
		t.Fatalf("a blob larger than the disk: %v", err)
	}
}

func TestACallerThatLeavesStopsTheModel(t *testing.T) {
	b := start(t)
	b.install("m", enginetest.Slow())
	err := b.with(auth.ModelInfer, "m", func(ctx context.Context, p *guard.Permit) error {
		for _, err := range b.Complete(ctx, p, models.Prompt{Model: "m", Raw: "x", MaxTokens: 4000}) {
			return err // after the first piece
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err = b.with(auth.ModelInfer, "m", func(_ context.Context, p *guard.Permit) error {
		for _, err := range b.Complete(ctx, p, models.Prompt{Model: "m", Raw: "y", MaxTokens: 1}) {
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("the next call waits for the one that was left: %v", err)
	}
}

// children lists the processes under a process whose command line names a word.
func children(t *testing.T, parent int, word string) (list []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err1 := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		line, err2 := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err1 != nil || err2 != nil {
			continue
		}
		after := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if after[1] == strconv.Itoa(parent) && strings.Contains(string(line), "\x00"+word+"\x00") {
			list = append(list, pid)
		}
	}
	if len(list) == 0 {
		t.Fatalf("process %d has no child %q", parent, word)
	}
	return list
}

func kill(t *testing.T, parent int, word string) {
	t.Helper()
	for _, pid := range children(t, parent, word) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
}

// waitGone waits for a process to end.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	for ctx := t.Context(); ; {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("process %d lives on", pid)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
