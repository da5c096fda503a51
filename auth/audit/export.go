package audit

import (
	"context"
	"errors"
	"io"
	"time"
)

// Range is what an export holds: the records [From, To) that also lie in the
// time given.
type Range struct {
	From     uint64
	To       uint64    // 0 = up to the newest
	Since    time.Time // leader time, inclusive
	Until    time.Time // leader time, exclusive
	Held     []uint64  // sizes of checkpoints that the auditor holds, for --after; those inside the range need not be named
	Openings bool      // include the openings of personal fields that were not forgotten
}

// Export writes a bundle (see auth/audit/proof) with the policies' texts by id.
// It streams: memory does not grow with the range. No view is held open while
// w is slow. After an error what was written is no bundle.
func (l *Log) Export(ctx context.Context, r Range, w io.Writer, policies map[string]string) error {
	return errors.New("export is being built")
}
