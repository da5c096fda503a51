// Package load is the closed loop that every system of a benchmark is driven by,
// so that their figures differ by the system alone: a number of clients, each
// with a connection of its own and one call under way at a time.
//
// It may import nothing but the standard library: the load generators of other
// systems are programs in modules of their own.
package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Client is one client's connection.
type Client interface {
	// Put makes one value durable.
	Put(ctx context.Context, key string, value []byte) error
	// Get reads one value, linearizably.
	Get(ctx context.Context, key string) error
	Close() error
}

// Job is what a run does.
type Job struct {
	Clients int
	Bytes   int // of a value
	For     time.Duration
	Reads   bool // Get what was put before instead of Put
	Name    string
}

// Figures are what a run saw. A failed call counts in Failed and nowhere else.
type Figures struct {
	Done, Failed int
	PerSecond    float64
	P50, P99     time.Duration
	Max          time.Duration
	CPU          time.Duration // of this process
	FirstFailure string        `json:",omitempty"`
}

// Keys is how many keys each client writes in turn and reads back.
const Keys = 512

// Run opens the clients and runs the job. Connections are made before the clock
// starts.
func Run(ctx context.Context, j Job, open func(ctx context.Context, i int) (Client, error)) (Figures, error) {
	clients := make([]Client, j.Clients)
	for i := range clients {
		c, err := open(ctx, i)
		if err != nil {
			return Figures{}, fmt.Errorf("connect client %d: %w", i, err)
		}
		defer c.Close()
		clients[i] = c
	}
	if j.Reads {
		if err := fill(ctx, j, clients[0]); err != nil {
			return Figures{}, err
		}
	}
	own := make([]tally, len(clients))
	used, begin := cpuTime(), time.Now()
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() { own[i] = loop(ctx, j, c, i, begin.Add(j.For)) })
	}
	wg.Wait()
	return sum(own, time.Since(begin), cpuTime()-used)
}

func fill(ctx context.Context, j Job, c Client) error {
	for k := range Keys {
		if err := c.Put(ctx, name(j, 0, k), make([]byte, j.Bytes)); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	return nil
}

func name(j Job, client, i int) string { return fmt.Sprintf("%s/%d/%d", j.Name, client, i%Keys) }

type tally struct {
	took   []time.Duration
	failed int
	first  error
}

func loop(ctx context.Context, j Job, c Client, client int, end time.Time) (t tally) {
	value := make([]byte, j.Bytes)
	for i := 0; ctx.Err() == nil; i++ {
		begin := time.Now()
		if begin.After(end) {
			return t
		}
		var err error
		if j.Reads {
			err = c.Get(ctx, name(j, 0, i+client*7))
		} else {
			value[i%len(value)]++
			err = c.Put(ctx, name(j, client, i), value)
		}
		if err != nil {
			if t.failed++; t.first == nil {
				t.first = err
			}
			continue
		}
		t.took = append(t.took, time.Since(begin))
	}
	return t
}

func sum(own []tally, took, cpu time.Duration) (Figures, error) {
	var all []time.Duration
	f := Figures{CPU: cpu}
	for _, t := range own {
		all = append(all, t.took...)
		f.Failed += t.failed
		if t.first != nil && f.FirstFailure == "" {
			f.FirstFailure = t.first.Error()
		}
	}
	if len(all) == 0 {
		return f, errors.New("no call succeeded: " + f.FirstFailure)
	}
	slices.Sort(all)
	f.Done, f.PerSecond = len(all), float64(len(all))/took.Seconds()
	f.P50, f.P99, f.Max = all[len(all)/2], all[len(all)*99/100], all[len(all)-1]
	return f, nil
}

// Print writes the figures as one line of JSON, for who started the program.
func (f Figures) Print(w io.Writer) error { return json.NewEncoder(w).Encode(f) }

func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
