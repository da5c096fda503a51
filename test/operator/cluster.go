package operator

import (
	"context"
	"errors"
	"net/http/httptrace"
	"sync"
	"time"
)

// outage bounds how long nobody may answer after a node is lost.
const outage = time.Minute

// Cluster is several nodes that a person knows.
type Cluster []*Node

// Ask asks the nodes in turn until one answers, as a person does whose node died.
func (c Cluster) Ask(ctx context.Context, token, question string) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, outage)
	defer cancel()
	for at := 0; ; at++ {
		once, stop := context.WithTimeout(ctx, 10*time.Second)
		a, err := c[at%len(c)].Ask(once, token, question)
		stop()
		if err == nil {
			return a, nil
		}
		select {
		case <-ctx.Done():
			return a, errors.Join(ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// CutWhileItAnswers cuts a node's machine off once a question to it is on its way,
// and asks the others the same. It returns their answer, and how long the person
// waited for it.
func (c Cluster) CutWhileItAnswers(ctx context.Context, victim *Node, token, question string) (Answer, time.Duration, error) {
	var once sync.Once
	written := make(chan struct{})
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { once.Do(func() { close(written) }) },
	})
	asked := make(chan error, 1)
	go func() {
		_, err := victim.Ask(traced, token, question)
		asked <- err
	}()
	select {
	case <-written:
	case err := <-asked:
		return Answer{}, 0, errors.Join(errors.New("the question did not reach the node that was to lose its power"), err)
	}
	victim.Cut()
	began := time.Now()
	var others Cluster
	for _, n := range c {
		if n != victim {
			others = append(others, n)
		}
	}
	a, err := others.Ask(ctx, token, question)
	return a, time.Since(began), err
}

// Form starts the first node, makes the administrator and has the others join.
func (c Cluster) Form(ctx context.Context) error {
	first := c[0]
	if err := first.Configure("[cluster]", `peer = "`+first.Peer()+`"`); err != nil {
		return err
	}
	if err := first.Start(ctx); err != nil {
		return err
	}
	if err := first.Setup(ctx); err != nil {
		return err
	}
	for _, n := range c[1:] {
		if err := n.Join(ctx, first); err != nil {
			return err
		}
	}
	return first.AllVote(ctx, len(c))
}

// Install installs a package on all at once.
func (c Cluster) Install(ctx context.Context, file string) error {
	done := make(chan error, len(c))
	for _, n := range c {
		go func() {
			_, err := n.Install(ctx, file)
			done <- err
		}()
	}
	var all error
	for range c {
		all = errors.Join(all, <-done)
	}
	return all
}
