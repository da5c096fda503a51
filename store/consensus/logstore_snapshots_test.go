package consensus

import (
	"bytes"
	"io"
	"log/slog"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/cloister-os/cloister/store/sealed"
)

func TestSnapshotsAreSealedAndTheirSizeIsThatOfWhatTheyHold(t *testing.T) {
	state := bytes.Repeat([]byte("snapshot-canary-19c2 "), 10_000)
	for name, r := range map[string]sealed.Ring{"plain": nil, "sealed": newRing(4)} {
		dir := t.TempDir()
		s, err := openSnapshots(dir, r, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		_, trans := raft.NewInmemTransport("")
		sink, err := s.Create(1, 10, 2, raft.Configuration{}, 1, trans)
		if err != nil {
			t.Fatal(err)
		}
		if ids, err := s.Keys(t.Context()); err != nil || (r != nil && (len(ids) != 1 || ids[0] != 4)) {
			t.Errorf("%s: while it is written it needs %v, %v", name, ids, err)
		}
		if _, err := sink.Write(state); err != nil {
			t.Fatal(err)
		}
		if err := sink.Close(); err != nil {
			t.Fatal(err)
		}
		if got := holds(t, dir, "snapshot-canary"); got != (r == nil) {
			t.Errorf("%s: the files hold the text: %v", name, got)
		}
		if ids, err := s.Keys(t.Context()); err != nil || (r != nil && (len(ids) != 1 || ids[0] != 4)) {
			t.Errorf("%s: it needs %v, %v", name, ids, err)
		}
		meta, in, err := s.Open(sink.ID())
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(in)
		if err != nil || !bytes.Equal(got, state) || meta.Size != int64(len(state)) {
			t.Errorf("%s: %d bytes of %d came back, %v", name, len(got), meta.Size, err)
		}
		in.Close()
	}
}
