package guard_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/auth/seal"
)

func TestWhoeverLooksAtTheRecordIsOnIt(t *testing.T) {
	h := guardtest.Open(t, nil)
	keys, err := seal.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.New(audit.Config{Store: h.Store, Signer: keys.LogSigner(), VerifierKey: keys.LogVerifierKey(), Sealer: keys})
	if err != nil {
		t.Fatal(err)
	}
	r := guard.Records{Guard: h.Guard, Log: log}
	page, err := r.List(t.Context(), guardtest.Auditor(), audit.Filter{})
	if err != nil || page.Size != 1 || page.Entries[0].Record.Action != auth.AuditRead {
		t.Errorf("%+v %v", page, err)
	}
	if entry, err := r.Entry(t.Context(), guardtest.Auditor(), 0); err != nil || entry.Record.Actor.ID != "u-auditor" {
		t.Errorf("%+v %v", entry, err)
	}
	if c, err := r.Checkpoint(t.Context(), guardtest.Auditor()); err != nil || c.Size == 0 {
		t.Errorf("%+v %v", c, err)
	}
	var bundle bytes.Buffer
	if err := r.Export(t.Context(), guardtest.Auditor(), audit.Range{}, &bundle); err != nil || bundle.Len() == 0 {
		t.Errorf("%d bytes, %v", bundle.Len(), err)
	}
	bundle.Reset()
	for _, who := range []auth.Principal{guardtest.Asker(), guardtest.KeyFor("wiki"), guardtest.AgentFor(guardtest.Admin())} {
		if page, err := r.List(t.Context(), who, audit.Filter{}); !errors.Is(err, auth.ErrDenied) || len(page.Entries) != 0 {
			t.Errorf("%s listed the record: %v", who.ID, err)
		}
		if err := r.Export(t.Context(), who, audit.Range{}, &bundle); !errors.Is(err, auth.ErrDenied) || bundle.Len() != 0 {
			t.Errorf("%s exported the record: %v", who.ID, err)
		}
	}
}

// TestALookAtTheRecordSaysWhereItLooked reads a range and exports one: the
// record of it holds the range and the filter, and no content.
func TestALookAtTheRecordSaysWhereItLooked(t *testing.T) {
	h := guardtest.Open(t, nil)
	keys, err := seal.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.New(audit.Config{Store: h.Store, Signer: keys.LogSigner(), VerifierKey: keys.LogVerifierKey(), Sealer: keys})
	if err != nil {
		t.Fatal(err)
	}
	r := guard.Records{Guard: h.Guard, Log: log}
	since := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	for range 3 {
		if _, err := r.List(t.Context(), guardtest.Auditor(), audit.Filter{Since: since, Action: auth.AuditRead, Decision: "allow", Actor: "u-auditor"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Entry(t.Context(), guardtest.Auditor(), 1); err != nil {
		t.Fatal(err)
	}
	if err := r.Export(t.Context(), guardtest.Auditor(), audit.Range{From: 1, To: 3}, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil { // outcomes of reads come in batches
		t.Fatal(err)
	}
	var got []string
	last := map[string]int64{}
	for _, rec := range h.Records(t) {
		if rec.Kind == audit.Intent {
			got = append(got, fmt.Sprint(rec.Action, " ", rec.Detail))
		} else if rec.Action == auth.AuditRead && rec.Usage["rows"] > 0 {
			last = rec.Usage
		}
	}
	list := "audit.read map[action:audit.read actor:u-auditor decision:allow since:2020-01-02T03:04:05Z]"
	want := []string{list, list, list, "audit.read map[from:1 to:2]", "audit.export map[from:1 to:3]"}
	if !slices.Equal(got, want) {
		t.Errorf("on record:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if last["last"] == 0 || last["first"] > last["last"] {
		t.Errorf("the outcome of a look: %v", last)
	}
}
