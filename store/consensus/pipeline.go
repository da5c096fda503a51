package consensus

import (
	"sync"

	"github.com/hashicorp/raft"
)

// pipeline takes raft's answers off the network whether raft reads them or not.
// raft's own pipeline holds as few as one: when a follower refuses an entry, raft's
// reader leaves, its writer may be waiting for room that only the reader makes, and
// neither ever goes on. The follower then gets heartbeats and no entries for as
// long as the leader leads, and the leader's raft never ends (hashicorp/raft issue
// 612). What is held is bounded: the writer looks whether the reader has left
// before each entry that it sends.
type pipeline struct {
	raft.AppendPipeline
	answers chan raft.AppendFuture
	stop    chan struct{}
	once    sync.Once
}

func newPipeline(inner raft.AppendPipeline) *pipeline {
	p := &pipeline{AppendPipeline: inner, answers: make(chan raft.AppendFuture), stop: make(chan struct{})}
	go p.pass()
	return p
}

// pass hands the answers on in order.
func (p *pipeline) pass() {
	var held []raft.AppendFuture
	for {
		var out chan raft.AppendFuture
		var first raft.AppendFuture
		if len(held) > 0 {
			out, first = p.answers, held[0]
		}
		select {
		case f := <-p.AppendPipeline.Consumer():
			held = append(held, f)
		case out <- first:
			held = held[1:]
		case <-p.stop:
			return
		}
	}
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.stop) })
	return p.AppendPipeline.Close()
}
