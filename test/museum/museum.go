// Package museum is the list of faults that were found in what is ours or under
// us by the store's tests under faults, each with the test that keeps it away.
//
// It promises that every exhibit names a test that exists, which fails when the
// fix is reverted (each was seen to fail so). The tests stand beside the code
// that they keep; the seeds that found the faults are not kept, since inputs made
// from a seed change with the harness. It imports nothing of Cloister.
package museum

// Exhibit is one fault.
type Exhibit struct {
	Fault   string // what went wrong, to whom
	FoundBy string
	Package string // of the test, from the top of the repository
	Test    string
}

// Exhibits are all, oldest first.
func Exhibits() []Exhibit {
	return []Exhibit{
		{
			"raft-wal v0.4.0 seals the segment of a log whose tail was cut without writing its index: a follower that dropped a dead leader's last entries and was killed never started again",
			"chaos: isolate the leader, kill", "store/consensus", "TestALogWhoseTailWasCutOpensAgain",
		},
		{
			"a disk set back to an earlier state made a majority with one other node",
			"chaos: yesterday", "test/chaos", "TestAnOldDiskGetsNoVote",
		},
		{
			"a node made anew under an old name on a machine whose clock is behind numbered its life below its predecessor's: every transaction through it was refused for ever, and reported as unknown",
			"chaos: membership with a wrong clock", "store/consensus", "TestReplacedOnAMachineWhoseClockIsBehind",
		},
		{
			"the source of a node that the leader never heard of was said to be away since the year 2319",
			"the main job on three nodes", "node", "TestANodeThatWasNeverHeardOfIsAwaySinceNobodyKnowsWhen",
		},
		{
			"what a node proved of itself was noted for no life when its removal had just been replayed: the leader then refused a sound disk as set back, and the node ended; of other nodes nothing that they proved was kept",
			"chaos: membership, then kill all", "store/consensus", "TestWhatANodeProvesIsOfItsPresentLife",
		},
		{
			"a sequence that came twice in one group, out of order, was applied twice",
			"simulation of state machines", "store/machine", "TestASequenceTwiceInAGroupOutOfOrderIsAppliedOnce",
		},
		{
			"headers of state that history still needed were discarded",
			"simulation of state machines", "store/machine", "TestChangesOfStateKeepTheirTimeBelowTheRetentionFloor",
		},
		{
			"what a stage was reading was discarded under it",
			"simulation of state machines", "store/machine", "TestNothingIsDiscardedUnderAStage",
		},
		{
			"a follower that refused an entry was never sent the next ones (hashicorp/raft issue 612)",
			"simulation of whole nodes", "store/consensus", "TestAPipelineWhoseReaderLeftLetsItsWriterGo",
		},
		{
			"a node that was asked for its vote while it still opened its log ended: with another node dead, nothing was written until it was started again",
			"the fail-over benchmark, after 70 and 80 kills", "store/consensus", "TestNobodyIsAnsweredBeforeRaftIsThere",
		},
		{
			"a model that was imported again while the node was still removing what a failed import had left was removed with it",
			"the tests of the fleet on a busy machine", "models/fleet", "TestAnImportThatNoSecondNodeCanTakeFails",
		},
		{
			"a node that had found the lease of a run dead took the run from another that had just taken it over: a step was begun a third time, and one that must not be done twice would have ended the run",
			"CI on a quiet machine, once in twenty runs", "agents/run", "TestARunThatWasTakenOverMeanwhileIsLeftAlone",
		},
		{
			"under steady writes a node held most of a gigabyte of buffers in which tables had been built, and never gave them back",
			"a heap profile of the restart benchmark's fill", "store/machine/disk", "TestBuffersOfTablesAreLetGo",
		},
		{
			"nothing moved the floor of history, so documents and results that nothing named any more were kept for ever: the collection of blobs waits for that floor, and only its own tests ever moved it",
			"reading the room once more", "node", "TestHistoryIsKeptAsLongAsConfigured",
		},
		{
			"raft's writer read a member's address while its change was being written, to name it in the log after a failed send: half of the old address and half of the new one (hashicorp/raft v1.8.0, pipelineSend)",
			"the race detector in CI, once", "store/consensus", "TestABrokenPipelineRefusesWithoutAnError",
		},
		{
			"a node whose disk was set back was told, when the numbers that its two lives drew fell so, only that another process uses a copy of its folder, and not what to do",
			"chaos: yesterday", "store/consensus", "TestANodeHearsOfALaterStartOfItself",
		},
		{
			"of two nodes made anew under one name on machines whose clocks are behind, the second outranked the same earlier life as the first: it took the outcomes of the first, which came by in the log, for those of its own transactions, and acknowledged what was never written",
			"chaos: membership with a wrong clock, several times", "store/consensus", "TestReplacedTwiceOnAMachineWhoseClockIsBehind",
		},
		{
			"what was proven of a node before its removal came back from a member that was behind the log, and was held against the one that joined under its name: its disk was refused as emptied, and it stayed in no cluster",
			"CI, once: membership after a split", "store/consensus", "TestWhoJoinedAgainIsAnotherNode",
		},
		{
			"an order about the members was answered by a change that was only in the leader's own log, and could be undone: \"no such node\" of a voter whose disk is then emptied, and to the voter itself that it is removed for ever",
			"reading the room after that", "store/consensus", "TestAnOrderWaitsForTheChangeBeforeIt",
		},
	}
}
