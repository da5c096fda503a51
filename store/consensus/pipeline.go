package consensus

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// pipeline takes raft's answers off the network whether raft reads them or not.
// raft's own pipeline holds as few as one: when a follower refuses an entry, raft's
// reader leaves, its writer may be waiting for room that only the reader makes, and
// neither ever goes on. The follower then gets heartbeats and no entries for as
// long as the leader leads, and the leader's raft never ends (hashicorp/raft issue
// 612). What is held is bounded: the writer looks whether the reader has left
// before each entry that it sends.
//
// What cannot be sent is told to the reader as a refusal, after which raft goes back
// to single requests as it does after an error. Told of the error, raft's writer
// would name the member in its log, and read it while a change of its address is
// writing it: half of the old address and half of the new one.
type pipeline struct {
	raft.AppendPipeline
	answers chan raft.AppendFuture
	broken  chan raft.AppendFuture // holds one
	failed  atomic.Bool
	stop    chan struct{}
	once    sync.Once
}

func newPipeline(inner raft.AppendPipeline) *pipeline {
	p := &pipeline{AppendPipeline: inner, answers: make(chan raft.AppendFuture), broken: make(chan raft.AppendFuture, 1), stop: make(chan struct{})}
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
		case f := <-p.broken:
			held = append(held, f)
		case out <- first:
			held = held[1:]
		case <-p.stop:
			return
		}
	}
}

// AppendEntries implements raft.AppendPipeline. It has no error.
func (p *pipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if !p.failed.Load() {
		f, err := p.AppendPipeline.AppendEntries(req, resp)
		if err == nil {
			return f, nil
		}
	}
	f := refusal{req}
	if p.failed.CompareAndSwap(false, true) {
		p.broken <- f
	}
	return f, nil
}

// refusal is the answer to what was not sent.
type refusal struct{ req *raft.AppendEntriesRequest }

// Error implements raft.AppendFuture.
func (refusal) Error() error { return raft.ErrPipelineShutdown }

// Start implements raft.AppendFuture.
func (refusal) Start() time.Time { return time.Now() }

// Request implements raft.AppendFuture.
func (f refusal) Request() *raft.AppendEntriesRequest { return f.req }

// Response implements raft.AppendFuture.
func (refusal) Response() *raft.AppendEntriesResponse { return &raft.AppendEntriesResponse{} }

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.stop) })
	return p.AppendPipeline.Close()
}
