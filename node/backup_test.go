package node

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/auth/audit/proof"
	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/node/api/wire"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/backup"
)

func (s *served) backup(t *testing.T, full bool) wire.Backup {
	t.Helper()
	if status, p := s.call(t, http.MethodPost, "/api/v1/backups", wire.NewBackup{Full: full}, nil); status != http.StatusAccepted {
		t.Fatalf("%d %+v", status, p)
	}
	return s.settled(t)
}

// settled waits until no backup is under way and returns the newest.
func (s *served) settled(t *testing.T) (newest wire.Backup) {
	t.Helper()
	eventually(t, "the backup ends", func() bool {
		var page wire.Backups
		if status, p := s.call(t, http.MethodGet, "/api/v1/backups", nil, &page); status != http.StatusOK {
			t.Fatalf("%d %+v", status, p)
		}
		if page.Last.Error != "" {
			t.Fatal(page.Last.Error)
		}
		if page.Running != "" || page.Last.Name == "" || len(page.Backups) == 0 {
			return false
		}
		newest = page.Backups[len(page.Backups)-1]
		return newest.Name == page.Last.Name
	})
	return newest
}

func (s *served) key(t *testing.T, name string) {
	t.Helper()
	if status, p := s.call(t, http.MethodPost, "/api/v1/keys", wire.NewKey{Name: name, Scopes: []string{"ask"}}, nil); status >= 300 {
		t.Fatalf("%d %+v", status, p)
	}
}

func (s *served) keyNames(t *testing.T) string {
	t.Helper()
	var keys []wire.Key
	if status, p := s.call(t, http.MethodGet, "/api/v1/keys", nil, &keys); status != http.StatusOK {
		t.Fatalf("%d %+v", status, p)
	}
	var names []string
	for _, k := range keys {
		names = append(names, k.Name)
	}
	return strings.Join(names, " ")
}

func (s *served) signIn(t *testing.T) {
	t.Helper()
	var session wire.Session
	if status, p := s.call(t, http.MethodPost, "/api/v1/login", wire.Login{User: "ada", Password: "correct horse battery staple"}, &session); status != http.StatusOK {
		t.Fatalf("sign in: %d %+v", status, p)
	}
	s.token = session.Token
}

// verified exports the record and verifies it as an auditor would.
func (s *served) verified(t *testing.T, logKey string, after []byte) (proof.Report, error) {
	t.Helper()
	var b bytes.Buffer
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/api/v1/audit/export", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(&b, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("export: %d %v %s", resp.StatusCode, err, b.Bytes())
	}
	return proof.Verify(bytes.NewReader(b.Bytes()), int64(b.Len()), proof.Options{LogKey: logKey, After: after})
}

func (s *served) checkpoint(t *testing.T) wire.Checkpoint {
	t.Helper()
	var c wire.Checkpoint
	if status, p := s.call(t, http.MethodGet, "/api/v1/audit/checkpoint", nil, &c); status != http.StatusOK {
		t.Fatalf("%d %+v", status, p)
	}
	return c
}

// TestABackupBringsTheNodeBack goes the road of a lost data centre: backups of a
// node that is used, another machine with the root key, and an auditor who held a
// checkpoint of what was lost.
func TestABackupBringsTheNodeBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	secret, public, err := seal.NewRecoveryKey()
	if err != nil {
		t.Fatal(err)
	}
	cfg := settings(dir)
	cfg.Backup.Keep, cfg.Backup.Recovery = 4, public
	n := serve(t, newNode(cfg, "test", silent))
	n.setUp(t)
	n.key(t, "first")
	blob, err := n.blobs.PutBytes(t.Context(), []byte("a document"))
	if err != nil {
		t.Fatal(err)
	}
	one := n.backup(t, false)
	n.key(t, "second")
	two := n.backup(t, false)
	if one.Parent != "" || two.Parent != one.Name || one.Blobs != 1 || two.Blobs != 0 {
		t.Errorf("%+v, %+v", one, two)
	}
	n.key(t, "third")
	held := n.checkpoint(t)
	root, err := os.ReadFile(filepath.Join(dir, "seal", "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	from := filepath.Join(dir, "backups", two.Name)

	bare := Bare{From: from, Data: filepath.Join(t.TempDir(), "bare"), Node: "other", Root: root, Reason: "the building burnt", Log: silent}
	stranger := t.TempDir()
	if _, err := seal.Open(stranger); err != nil {
		t.Fatal(err)
	}
	wrong := bare
	if wrong.Root, err = os.ReadFile(filepath.Join(stranger, "root.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), wrong, func(backup.Progress) {}); err == nil || !strings.Contains(err.Error(), "does not open this backup") {
		t.Errorf("another root key: %v", err)
	}
	full := bare
	full.Free = func(string) (int64, error) { return 1 << 10, nil }
	if _, err := Restore(t.Context(), full, func(backup.Progress) {}); !errors.Is(err, backup.ErrNoSpace) {
		t.Errorf("a full disk: %v", err)
	}
	if used := bare; true {
		used.Data = dir
		if _, err := Restore(t.Context(), used, func(backup.Progress) {}); err == nil || !strings.Contains(err.Error(), "belongs to node n1") {
			t.Errorf("a folder in use: %v", err)
		}
	}
	if bare.Root, err = RootKey([]byte(secret), from); err != nil || !bytes.Equal(bare.Root, root) {
		t.Fatalf("the recovery key: %v", err)
	}
	out, err := Restore(t.Context(), bare, func(backup.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	if out.Epoch != 2 || out.Blobs != 1 || out.Backup != two.Name {
		t.Errorf("restored %+v", out)
	}
	again := settings(bare.Data)
	again.Node = ""
	m := serve(t, newNode(again, "test", silent))
	m.signIn(t)
	if names := m.keyNames(t); names != "first second" && names != "second first" {
		t.Errorf("keys %q", names)
	}
	if b, err := m.blobs.Read(blob, 100); err != nil || string(b) != "a document" {
		t.Errorf("blob %q, %v", b, err)
	}
	_, err = m.verified(t, held.LogKey, []byte(held.Note))
	var p *proof.Problem
	if !errors.As(err, &p) || p.Kind != proof.Restored || !strings.Contains(p.Text, "records lost") {
		t.Errorf("against what was lost: %v", err)
	}
	r, err := m.verified(t, held.LogKey, nil)
	if err != nil || r.Epoch != 2 || len(r.Epochs) != 1 || r.Epochs[0].From != two.Name {
		t.Errorf("%+v, %v", r, err)
	}
	if m.place.Cluster == n.place.Cluster {
		t.Error("the old nodes would be let in")
	}
}

func TestARunningNodeGoesBackToABackup(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	cfg := settings(dir)
	cfg.Backup.Keep = 4
	n := serve(t, newNode(cfg, "test", silent))
	n.setUp(t)
	n.key(t, "first")
	one := n.backup(t, false)
	n.key(t, "second")
	held := n.checkpoint(t)
	path := "/api/v1/backups/" + one.Name + "/restore"
	if status, p := n.call(t, http.MethodPost, path, wire.RestoreBackup{Confirm: "yes"}, nil); status != http.StatusUnprocessableEntity || !strings.Contains(p.Detail, one.Name) {
		t.Errorf("without the name: %d %+v", status, p)
	}
	if status, p := n.call(t, http.MethodPost, "/api/v1/backups/20260101T000000Z-v1/restore", wire.RestoreBackup{Confirm: "20260101T000000Z-v1"}, nil); status != http.StatusNotFound {
		t.Errorf("no such backup: %d %+v", status, p)
	}
	applied := n.store.Applied()
	if status, p := n.call(t, http.MethodPost, path, wire.RestoreBackup{Confirm: one.Name, Reason: "a wrong import"}, nil); status != http.StatusAccepted {
		t.Fatalf("%d %+v", status, p)
	}
	if err := <-n.ended; !errors.Is(err, ErrRestored) {
		t.Fatalf("the node ended with %v", err)
	}
	n.close(t)
	n = serve(t, newNode(cfg, "test", silent))
	n.signIn(t)
	if names := n.keyNames(t); names != "first" {
		t.Errorf("keys %q", names)
	}
	if now := n.store.Applied(); now <= applied {
		t.Errorf("versions went back from %d to %d", applied, now)
	}
	_, err := n.verified(t, held.LogKey, []byte(held.Note))
	var p *proof.Problem
	if !errors.As(err, &p) || p.Kind != proof.Restored {
		t.Errorf("got %v", err)
	}
	r, err := n.verified(t, held.LogKey, nil)
	if err != nil || r.Epochs[0].Lost <= 0 {
		t.Errorf("%+v, %v", r.Epochs, err)
	}
	// The next backup begins a chain: its parent's versions mean something else.
	if next := n.backup(t, false); next.Parent != "" {
		t.Errorf("it builds on %s", next.Parent)
	}
	if err := n.store.View(t.Context(), store.Local, func(store.Snapshot) error { return nil }); err != nil {
		t.Error(err)
	}
}

// TestANodeGoesOnAfterTheOthersAreLost: what is asked before, what is kept aside,
// and what the record says after.
func TestANodeGoesOnAfterTheOthersAreLost(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	n := serve(t, newNode(settings(dir), "test", silent))
	n.setUp(t)
	n.key(t, "first")
	held, cluster := n.checkpoint(t), n.place.Cluster
	if _, err := Survey(t.Context(), dir, nil, silent); err == nil || !strings.Contains(err.Error(), "another process uses") {
		t.Errorf("a node that runs: %v", err)
	}
	n.close(t)
	if _, err := Survey(t.Context(), t.TempDir(), nil, silent); err == nil || !strings.Contains(err.Error(), "holds no node's data") {
		t.Errorf("an empty folder: %v", err)
	}
	w, err := Survey(t.Context(), dir, nil, silent)
	if err != nil {
		t.Fatal(err)
	}
	w.free = func(string) (int64, error) { return 1 << 20, nil }
	if _, err := w.Recover(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("a full disk: %v", err)
	}
	w.free = func(string) (int64, error) { return 1 << 40, nil }
	if len(w.Members) != 1 || w.Node != "n1" || w.Applied == 0 || w.Bytes == 0 {
		t.Errorf("survey %+v", w)
	}
	out, err := w.Recover(t.Context(), "two nodes burnt")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(out.Aside); err != nil || len(list) < 4 || out.Epoch != 2 {
		t.Errorf("%+v, aside %v (%v)", out, list, err)
	}
	n = serve(t, newNode(settings(dir), "test", silent))
	n.signIn(t)
	if names := n.keyNames(t); names != "first" {
		t.Errorf("keys %q", names)
	}
	if n.place.Cluster == cluster {
		t.Error("the lost nodes would be let in")
	}
	r, err := n.verified(t, held.LogKey, []byte(held.Note))
	if err != nil || r.After == nil || len(r.Epochs) != 1 || r.Epochs[0].How != proof.HowRecovered || r.Epochs[0].From != "n1" {
		t.Errorf("%+v, %v", r.Epochs, err)
	}
}
