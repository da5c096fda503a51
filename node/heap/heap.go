// Package heap keeps what a process holds in memory near a bound.
//
// Go lets the heap grow to twice what is alive before it collects, and a database's
// compaction makes hundreds of megabytes alive for seconds: after a heavy fill the
// process would keep a gigabyte that nobody uses. A soft limit makes the collector
// work earlier, and give back to the system what is free.
//
// It promises: the limit is never so near to what is really alive that the collector
// has no air; GOMEMLIMIT, when the operator set it, is left alone. It imports nothing
// of Cloister.
package heap

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// Least is the limit while little is alive.
	Least = 520 << 20
	// every is how often the limit is looked at. What is alive for shorter does not
	// move it.
	every = 10 * time.Second
	// looks is for how many looks in a row something must be alive to count.
	looks = 3
	// releaseEvery is how often, at most, what is free is given back at once: the
	// collector does so only while something is allocated.
	releaseEvery = time.Minute
)

// Keep keeps the bound until the context ends. One per process.
func Keep(ctx context.Context) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var seen [looks]uint64
	var released time.Time
	for i := 0; ; i++ {
		seen[i%looks] = read(aliveBytes)
		bound := limit(seen[:])
		debug.SetMemoryLimit(bound)
		if held() > bound && time.Since(released) > releaseEvery {
			debug.FreeOSMemory()
			released = time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// limit is twice what was alive at every look, and never less than Least.
func limit(seen []uint64) int64 {
	least := seen[0]
	for _, s := range seen {
		least = min(least, s)
	}
	return max(Least, 2*int64(least))
}

// The figures of the runtime, in bytes.
const (
	aliveBytes    = "/gc/heap/live:bytes" // what the last collection found in use
	mappedBytes   = "/memory/classes/total:bytes"
	returnedBytes = "/memory/classes/heap/released:bytes"
)

// held is what the process has of the system's memory, as the limit counts it.
func held() int64 { return int64(read(mappedBytes) - read(returnedBytes)) }

func read(name string) uint64 {
	s := []metrics.Sample{{Name: name}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return s[0].Value.Uint64()
}
