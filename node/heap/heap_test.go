package heap

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"testing"
)

func TestTheLimitFollowsWhatStaysAlive(t *testing.T) {
	for _, c := range []struct {
		seen []uint64
		want int64
	}{
		{[]uint64{0, 0, 0}, Least},
		{[]uint64{900 << 20, 80 << 20, 900 << 20}, Least}, // a compaction
		{[]uint64{400 << 20, 410 << 20, 500 << 20}, 800 << 20},
	} {
		if got := limit(c.seen); got != c.want {
			t.Errorf("%v: %d, want %d", c.seen, got, c.want)
		}
	}
}

func TestKeepSetsALimitUnlessTheOperatorDid(t *testing.T) {
	before := debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetMemoryLimit(before)
	ended, end := context.WithCancel(t.Context())
	end()
	t.Setenv("GOMEMLIMIT", "1GiB")
	if Keep(ended); debug.SetMemoryLimit(-1) != math.MaxInt64 {
		t.Error("the operator's limit was not left alone")
	}
	t.Setenv("GOMEMLIMIT", "")
	if Keep(ended); debug.SetMemoryLimit(-1) != Least {
		t.Errorf("the limit is %d", debug.SetMemoryLimit(-1))
	}
	block := make([]byte, 64<<20)
	runtime.GC()
	if got := read(aliveBytes); got < 64<<20 {
		t.Errorf("%d bytes are alive, and 64 MiB are in use", got)
	}
	if got := held(); got < 64<<20 {
		t.Errorf("%d bytes are held, and 64 MiB are in use", got)
	}
	runtime.KeepAlive(block)
}
