package audit

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/cloister-os/cloister/store"
)

// Inclusion proves that a signed checkpoint holds a record.
type Inclusion struct {
	Seq        uint64
	Checkpoint Checkpoint
	Hashes     [][32]byte // from the leaf up, RFC 6962 section 2.1.1
}

// Text is the proof in the form of C2SP tlog-proof: it verifies with the leaf's
// bytes and the log's public key alone.
func (i Inclusion) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "c2sp.org/tlog-proof@v1\nindex %d\n", i.Seq)
	for _, h := range i.Hashes {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	b.WriteString("\n" + string(i.Checkpoint.Note))
	return b.String()
}

// Proof proves that the newest signed checkpoint holds a record;
// store.ErrNotFound when none holds it yet.
func (l *Log) Proof(ctx context.Context, seq uint64) (Inclusion, error) {
	out := Inclusion{Seq: seq}
	err := l.store.View(ctx, store.Local, func(s store.Snapshot) (err error) {
		if out.Checkpoint, _, err = lastCheckpoint(s); err != nil {
			return err
		}
		if seq >= out.Checkpoint.Size {
			return fmt.Errorf("record %d is not signed yet: %w", seq, store.ErrNotFound)
		}
		p, err := tlog.ProveRecord(int64(out.Checkpoint.Size), int64(seq), hashes(s.Log(LogName)))
		for _, h := range p {
			out.Hashes = append(out.Hashes, h)
		}
		return err
	})
	if err != nil {
		return Inclusion{}, fmt.Errorf("prove record %d: %w", seq, err)
	}
	return out, nil
}
