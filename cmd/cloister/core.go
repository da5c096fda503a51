package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// noCoreDumps keeps keys, questions and passwords out of what a crash leaves: this
// process is dumped neither to a file nor to a program that collects dumps, and
// no other process of the same account can read its memory. A limit of one byte,
// which its children inherit, is the one that collectors heed as well (core(5)).
// The engine's processes must be able to arrange their own namespaces, so that they
// have the limit alone.
func noCoreDumps() error {
	var limit unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_CORE, &limit)
	if err == nil {
		limit.Max = min(limit.Max, 1)
		limit.Cur = limit.Max
		err = unix.Setrlimit(unix.RLIMIT_CORE, &limit)
	}
	if err == nil {
		err = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	}
	if err != nil {
		return fmt.Errorf("core dumps could not be turned off: %w", err)
	}
	return nil
}
