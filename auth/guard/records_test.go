package guard_test

import (
	"bytes"
	"errors"
	"testing"

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
