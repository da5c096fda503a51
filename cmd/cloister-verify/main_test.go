package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/mod/sumdb/note"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/storetest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cloister-verify": main})
}

// TestScripts runs what an auditor would type. Each script finds:
//
//	bundle.tar      records 0 to 59 of a log
//	tail.tar        records 40 to 59 of it
//	old.txt         a checkpoint of its first 21 records, new.txt of all 61
//	fork.txt        a checkpoint of another history by the same key, fork.tar its bundle
//	thief.tar       the records, rebuilt and signed by another key
//	$KEY            the fingerprint noted at setup, $THIEF the other key's
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			dir := e.WorkDir
			real, thief := newLog(t, "k"), newLog(t, "x")
			e.Setenv("KEY", real.Fingerprint())
			e.Setenv("THIEF", thief.Fingerprint())
			real.fill(20, "")
			real.checkpoint(filepath.Join(dir, "old.txt"))
			real.fill(40, "")
			real.checkpoint(filepath.Join(dir, "new.txt"))
			real.export(filepath.Join(dir, "bundle.tar"), audit.Range{To: 60})
			real.export(filepath.Join(dir, "tail.tar"), audit.Range{From: 40, To: 60})
			thief.fill(60, "")
			thief.export(filepath.Join(dir, "thief.tar"), audit.Range{})
			fork := newLog(t, "k")
			fork.fill(11, "")
			fork.fill(19, "other")
			fork.checkpoint(filepath.Join(dir, "fork.txt"))
			fork.export(filepath.Join(dir, "fork.tar"), audit.Range{})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"flip": flip, "crlf": crlf},
	})
}

// flip changes one byte of a file: flip FILE TEXT changes the first byte of the
// text's first occurrence.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip FILE TEXT")
	}
	data := []byte(ts.ReadFile(args[0]))
	i := bytes.Index(data, []byte(args[1]))
	if i < 0 {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	data[i] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o644))
}

// crlf does to a file what some mail programs do.
func crlf(ts *testscript.TestScript, neg bool, args []string) {
	data := ts.ReadFile(args[0])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(data, "\n", "\r\n")+"\r\n"), 0o644))
}

// testLog is a log with its store.
type testLog struct {
	*audit.Log
	t     testing.TB
	store store.Store
	n     int
}

func newLog(t testing.TB, seed string) *testLog {
	t.Helper()
	skey, vkey, err := note.GenerateKey(strings.NewReader(strings.Repeat(seed, 32)), "cloister/test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	s := storetest.NewModel(nil)
	log, err := audit.New(audit.Config{Store: s, Signer: signer, VerifierKey: vkey, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return &testLog{Log: log, t: t, store: s}
}

func (l *testLog) fill(n int, salt string) {
	l.t.Helper()
	tx := store.NewTx()
	for range n {
		r := audit.Record{
			ID: fmt.Sprintf("R%d%s", l.n, salt), Kind: audit.Refusal, Actor: audit.Actor{Kind: auth.User, ID: "u1"}, Action: auth.Ask,
			Resource: audit.Resource{Type: "System", ID: "cloister"}, Decision: "deny", Policies: []string{"default-deny"},
		}
		if err := audit.Append(tx, r); err != nil {
			l.t.Fatal(err)
		}
		l.n++
	}
	if _, err := l.store.Apply(l.t.Context(), tx); err != nil {
		l.t.Fatal(err)
	}
}

func (l *testLog) checkpoint(name string) {
	l.t.Helper()
	c, err := l.Checkpoint(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(name, c.Note, 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func (l *testLog) export(name string, r audit.Range) {
	l.t.Helper()
	f, err := os.Create(name)
	if err != nil {
		l.t.Fatal(err)
	}
	defer f.Close()
	if err := l.Export(l.t.Context(), r, f, map[string]string{"starter": "permit(principal, action, resource);"}); err != nil {
		l.t.Fatal(err)
	}
}

// TestItIsSmall keeps the verifier readable: what it is made of, and how long.
func TestItIsSmall(t *testing.T) {
	lines := 0
	for _, name := range []string{"main.go", "proof/after", "proof/checkpoint", "proof/container", "proof/cosign", "proof/csv", "proof/epoch", "proof/key", "proof/leaf", "proof/line",
		"proof/manifest", "proof/problem", "proof/proof", "proof/scan", "proof/tables", "proof/tiles", "proof/verify"} {
		if dir, base, ok := strings.Cut(name, "/"); ok {
			name = filepath.Join("..", "..", "auth", "audit", dir, base+".go")
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines += bytes.Count(data, []byte("\n"))
	}
	const most = 2500 // epochs and cosignatures included
	if lines > most {
		t.Errorf("the verifier has %d lines; an auditor reads at most %d", lines, most)
	}
}
