package mainjob

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// reread fetches the cited bytes again and compares them with the citation.
func (j *job) reread(ctx context.Context, a answer) error {
	for _, c := range a.Citations {
		q := url.Values{"source": {c.Source}, "record": {c.Record}, "version": {strconv.FormatUint(c.Version, 10)},
			"start": {strconv.FormatInt(c.Start, 10)}, "end": {strconv.FormatInt(c.End, 10)}}
		b, status, err := j.call(ctx, j.token, http.MethodGet, "/api/v1/citations?"+q.Encode(), nil)
		if err != nil {
			return err
		}
		var got struct{ Text string }
		if err := json.Unmarshal(b, &got); err != nil || status != http.StatusOK {
			return fmt.Errorf("reading the citation %s again: status %d %s", q.Encode(), status, b)
		}
		if got.Text != c.Text {
			return fmt.Errorf("the citation %s reads %q now, it was cited as %q", q.Encode(), got.Text, c.Text)
		}
	}
	return nil
}

// askInShell asks one question of each shape the way a person does.
func (j *job) askInShell(ctx context.Context, r *report) error {
	seen := map[string]bool{}
	for _, q := range j.world.Questions {
		if seen[q.Shape] {
			continue
		}
		seen[q.Shape] = true
		out, err := j.cli(ctx, "", "ask", "--json", q.Wordings[0])
		if err != nil {
			return err
		}
		var a answer
		if err := json.Unmarshal([]byte(out), &a); err != nil {
			return fmt.Errorf("ask --json printed %q: %w", out, err)
		}
		if a.Run == "" || len(a.Freshness) == 0 {
			r.Facts["ask --json is complete"] = out
		}
		if _, err := j.cli(ctx, "", "ask", q.Wordings[0]); err != nil {
			return err
		}
	}
	return nil
}

// secondPrincipal asks with a key that may read the repository alone.
func (j *job) secondPrincipal(ctx context.Context, r *report) error {
	out, err := j.cli(ctx, "", "key", "create", "narrow", "--scope", "ask", "--source", "code", "--json")
	if err != nil {
		return err
	}
	narrow, err := secretOf(out)
	if err != nil {
		return err
	}
	for _, q := range j.world.Questions {
		if q.Shape != "fact" && q.Shape != "document" {
			continue
		}
		a, err := j.ask(ctx, narrow, q.Wordings[0])
		if err != nil {
			return err
		}
		b, _ := json.Marshal(a)
		for _, c := range a.Citations {
			if c.Source != "code" {
				r.Facts["a narrow key gets nothing of another source"] = string(b)
			}
		}
		for _, f := range a.Freshness {
			if f.Source != "code" {
				r.Facts["a narrow key does not learn of another source"] = string(b)
			}
		}
	}
	return j.refusals(ctx, r, narrow)
}

func (j *job) refusals(ctx context.Context, r *report, narrow string) error {
	for _, c := range []struct{ method, path, body string }{
		{http.MethodPost, "/api/v1/audit/export", `{}`},
		{http.MethodGet, "/api/v1/sources/docs", ""},
		{http.MethodPost, "/api/v1/sources/docs/sync", `{}`},
		{http.MethodPost, "/v1/chat/completions", `{"model":"default","messages":[{"role":"user","content":"hello"}]}`},
	} {
		b, status, err := j.call(ctx, narrow, c.method, c.path, []byte(c.body))
		if err != nil {
			return err
		}
		name := "a narrow key is refused " + c.method + " " + c.path
		r.Facts[name] = ""
		if status != http.StatusForbidden || !strings.Contains(string(b), "polic") {
			r.Facts[name] = fmt.Sprintf("status %d: %s", status, b)
		}
	}
	out, err := j.cli(ctx, "", "audit", "list", "--json", "--kind", "refusal")
	if err != nil {
		return err
	}
	r.Facts["refusals are on record"] = ""
	if strings.Count(out, "audit.export") == 0 {
		r.Facts["refusals are on record"] = out
	}
	return nil
}

// killAndAsk kills the node while it answers, starts it again, and asks.
func (j *job) killAndAsk(ctx context.Context, r *report) error {
	q := j.world.Questions[0]
	for i := range 3 {
		go func() { _, _ = j.ask(ctx, j.token, q.Wordings[i]) }()
	}
	time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
	if err := j.server.Process.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	_ = j.server.Wait()
	if err := j.start(ctx, r); err != nil {
		return err
	}
	a, err := j.ask(ctx, j.token, q.Wordings[0])
	if err != nil {
		return err
	}
	r.Facts["the answer after a kill is the answer before"] = ""
	if !evidence(q, a) {
		r.Facts["the answer after a kill is the answer before"] = a.Answer
	}
	return nil
}

// evidence takes the audit log away, verifies it with the auditor's own program,
// and shows that what was changed is named and what was signed anew is refused.
func (j *job) evidence(ctx context.Context, r *report) error {
	bundle := filepath.Join(j.dir, "audit.bundle")
	if _, err := j.cli(ctx, "", "audit", "export", "--out", bundle); err != nil {
		return err
	}
	if out, err := j.verify(ctx, j.setup.LogKey, bundle); err != nil {
		return fmt.Errorf("an untouched bundle was refused: %w: %s", err, out)
	}
	whole, err := os.ReadFile(bundle)
	if err != nil {
		return err
	}
	changed := filepath.Join(j.dir, "changed.bundle")
	r.Facts["a changed byte is found wherever it is"] = ""
	for range 60 {
		at := rand.IntN(len(whole))
		b := append([]byte(nil), whole...)
		b[at] ^= byte(1 + rand.IntN(255))
		if err := os.WriteFile(changed, b, 0o600); err != nil {
			return err
		}
		out, err := j.verify(ctx, j.setup.LogKey, changed)
		if err == nil || strings.TrimSpace(out) == "" {
			r.Facts["a changed byte is found wherever it is"] = fmt.Sprintf("byte %d of %d: %s", at, len(whole), out)
		}
	}
	r.Facts["a bundle of another key is refused"] = ""
	sum := sha256.Sum256([]byte("the key of another installation"))
	other := "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
	out, err := j.verify(ctx, other, bundle)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 { // 2 = could not be examined, which would prove nothing
		r.Facts["a bundle of another key is refused"] = fmt.Sprintf("%v: %s", err, out)
	}
	return nil
}

func (j *job) verify(ctx context.Context, key, bundle string) (string, error) {
	out, err := exec.CommandContext(ctx, j.verifier, "--log-key", key, bundle).CombinedOutput()
	return string(out), err
}
