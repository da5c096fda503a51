// Package threads keeps room for who waits.
//
// A database's compaction takes every processor for seconds. With as many threads as
// processors, a request waits behind it at each of the many steps that it takes, ten
// milliseconds each; with some more threads than a compaction can take, the request
// gets one at once, and the system lets a thread that has slept go first.
//
// It promises to leave GOMAXPROCS alone when the operator set it, and to say how many
// processors there are to whoever bounds work by them, which GOMAXPROCS no longer
// says. It imports nothing of Cloister.
package threads

import (
	"os"
	"runtime"
	"sync/atomic"
)

// Spare is how many threads may run beside one for each processor: one more than
// Badger splits a compaction into.
const Spare = 6

// added is how many Keep has added.
var added atomic.Int64

// Keep makes the room, once per process, at its start. The runtime does not follow a
// change of the processors that the process may use from then on.
func Keep() {
	if os.Getenv("GOMAXPROCS") == "" && added.CompareAndSwap(0, Spare) {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + Spare)
	}
}

// Processors is how many there are for this process, or what the operator set.
func Processors() int { return max(1, runtime.GOMAXPROCS(0)-int(added.Load())) }
