package consensus

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// narrow is a pipeline that holds no answer, as raft's does: who sends waits
// until the answer before is taken.
type narrow struct {
	answers chan raft.AppendFuture
	stop    chan struct{}
}

func (n *narrow) AppendEntries(*raft.AppendEntriesRequest, *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	select {
	case n.answers <- nil:
		return nil, nil
	case <-n.stop:
		return nil, raft.ErrPipelineShutdown
	}
}

func (n *narrow) Consumer() <-chan raft.AppendFuture { return n.answers }

func (n *narrow) Close() error {
	close(n.stop)
	return nil
}

// TestAPipelineWhoseReaderLeftLetsItsWriterGo: the reader leaves at the first
// refusal; the writer must come round to see it. Found by the simulation.
func TestAPipelineWhoseReaderLeftLetsItsWriterGo(t *testing.T) {
	p := newPipeline(&narrow{make(chan raft.AppendFuture), make(chan struct{})})
	sent := make(chan struct{})
	go func() {
		for range 10 {
			if _, err := p.AppendEntries(nil, nil); err != nil {
				t.Error(err)
			}
		}
		close(sent)
	}()
	select {
	case <-sent:
	case <-time.After(time.Minute):
		t.Fatal("the writer waits for a reader that has left")
	}
	for range 10 {
		<-p.Consumer()
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// broken is a pipeline whose connection is gone.
type broken struct{ *narrow }

func (broken) AppendEntries(*raft.AppendEntriesRequest, *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	return nil, raft.ErrPipelineShutdown
}

// TestABrokenPipelineRefusesWithoutAnError: raft's writer, told of an error, would read
// the member while a change of its address writes it. Found by the race detector.
func TestABrokenPipelineRefusesWithoutAnError(t *testing.T) {
	p := newPipeline(broken{&narrow{make(chan raft.AppendFuture), make(chan struct{})}})
	for range 10 {
		if _, err := p.AppendEntries(&raft.AppendEntriesRequest{}, &raft.AppendEntriesResponse{}); err != nil {
			t.Fatal(err)
		}
	}
	f := <-p.Consumer()
	if f.Error() == nil || f.Request() == nil || f.Response().Success || f.Response().Term != 0 {
		t.Errorf("%+v", f)
	}
	select {
	case f := <-p.Consumer():
		t.Errorf("a second refusal, which nobody would read: %+v", f)
	case <-time.After(10 * time.Millisecond):
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
