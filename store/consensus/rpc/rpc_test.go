package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// pair is a client and the server's end of its connection.
func pair(t *testing.T, h Handler) (*Client, *Conn, chan error) {
	t.Helper()
	a, b := net.Pipe()
	server := New(b, 5*time.Second)
	ended := make(chan error, 1)
	go func() { ended <- server.Read(h) }()
	client := NewClient(a, 5*time.Second, func(byte, uint64, []byte) error { return nil }, func(error) {})
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server, ended
}

func TestQuestionsAreAnswered(t *testing.T) {
	var server *Conn
	ready := make(chan struct{})
	client, server, _ := pair(t, func(kind byte, id uint64, body []byte) error {
		<-ready
		if kind == 9 {
			return server.Send(Refusal, id, []byte("no"))
		}
		return server.Send(Answer, id, append(body, '!'))
	})
	close(ready)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			got, err := client.Call(t.Context(), 2, fmt.Append(nil, i))
			if err != nil || string(got) != fmt.Sprint(i, "!") {
				t.Errorf("%d: %q, %v", i, got, err)
			}
		})
	}
	wg.Wait()
	var refused *RefusedError
	if _, err := client.Call(t.Context(), 9, nil); !errors.As(err, &refused) || refused.Reason != "no" {
		t.Errorf("a refusal: %v", err)
	}
}

func TestAHugeFrameIsRefused(t *testing.T) {
	a, b := net.Pipe()
	c := New(b, 5*time.Second)
	ended := make(chan error, 1)
	go func() { ended <- c.Read(func(byte, uint64, []byte) error { return nil }) }()
	head := binary.BigEndian.AppendUint32(nil, 2<<30)
	if _, err := a.Write(append(head, make([]byte, headBytes-4)...)); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "a frame of 2147483648 bytes") {
		t.Errorf("got %v", err)
	}
	if err := c.Send(2, 1, make([]byte, MaxFrame+1)); err == nil {
		t.Error("a frame that is too large was sent")
	}
}

func TestABrokenConnectionAnswersEverybody(t *testing.T) {
	client, server, ended := pair(t, func(byte, uint64, []byte) error { return nil }) // never answers
	got := make(chan error, 1)
	client.Ask(2, nil, func(_ []byte, err error) { got <- err })
	server.Close()
	if err := <-got; err == nil {
		t.Error("a question was answered")
	}
	<-ended
	if _, err := client.Call(t.Context(), 2, nil); err == nil {
		t.Error("a question after the end was answered")
	}
}

func TestASilentPeerEndsTheConnection(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	c := New(b, 20*time.Millisecond)
	if err := c.Read(func(byte, uint64, []byte) error { return nil }); err == nil {
		t.Error("it waited for ever")
	}
}

func TestWhatWaitsIsBounded(t *testing.T) {
	a, b := net.Pipe() // nobody reads a
	defer a.Close()
	c := New(b, time.Minute)
	var err error
	for i := 0; err == nil; i++ {
		if i > 2*maxWaiting/MaxFrame {
			t.Fatal("it is not")
		}
		err = c.Send(2, 0, make([]byte, MaxFrame))
	}
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Error("the connection goes on")
	}
}

func TestWhoGivesUpIsNotHeldUp(t *testing.T) {
	client, _, _ := pair(t, func(byte, uint64, []byte) error { return nil })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := client.Call(ctx, 2, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
