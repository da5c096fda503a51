package consensus

import (
	"testing"

	"github.com/hashicorp/raft"
)

// A follower drops what a dead leader left at the end of its log. raft-wal v0.4.0
// marked the segment that was cut as sealed without writing its index, so a
// follower that was killed before the next cut could never start again. This test
// fails with that version.
func TestALogWhoseTailWasCutOpensAgain(t *testing.T) {
	dir, keys := t.TempDir(), newRing(1)
	l := openLogs(t, dir, keys)
	for i := uint64(1); i <= 20; i++ {
		if err := l.StoreLog(&raft.Log{Index: i, Term: 1, Data: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.DeleteRange(15, 20); err != nil {
		t.Fatal(err)
	}
	if err := l.StoreLog(&raft.Log{Index: 15, Term: 2, Data: []byte("y")}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLogs(t, dir, keys)
	for i := uint64(1); i <= 15; i++ {
		var e raft.Log
		if err := l.GetLog(i, &e); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		if want := map[bool]uint64{false: 1, true: 2}[i == 15]; e.Term != want {
			t.Errorf("entry %d is of term %d, want %d", i, e.Term, want)
		}
	}
}
