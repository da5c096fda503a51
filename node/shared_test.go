package node

import (
	"math"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store/consensus"
)

// A leader that never heard of a node gives the longest duration there is. The
// source of a node that died before the leader led was said to be away since the
// year 2319.
func TestANodeThatWasNeverHeardOfIsAwaySinceNobodyKnowsWhen(t *testing.T) {
	now := time.Date(2026, 11, 23, 16, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name  string
		m     consensus.Member
		since time.Time
		away  bool
	}{
		{"never heard of", consensus.Member{LastContact: math.MaxInt64}, time.Time{}, true},
		{"silent", consensus.Member{LastContact: time.Minute}, now.Add(-61 * time.Second), true},
		{"heard lately", consensus.Member{LastContact: time.Second}, now.Add(-2 * time.Second), false},
		{"itself", consensus.Member{Self: true, LastContact: time.Minute}, now.Add(-61 * time.Second), false},
	} {
		since, away := silence(c.m, time.Second, now)
		if away != c.away || !since.Equal(c.since) {
			t.Errorf("%s: away %v since %v", c.name, away, since)
		}
	}
}
