// Package engine runs models on this node.
//
// It promises: inference happens in a child process (this binary again, as
// `cloister engine`; package child is that side) which is restarted when it
// ends, killed with all its runners when the node ends, and has no way to any
// network; a crash of native code fails the calls that were in it and nothing
// else; nothing behind it acts without a permit.
//
// This package links nothing native and knows the child only by the HTTP
// dialect on a private unix socket. Only package child imports Ollama. It may
// import models and auth.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/cloister-os/cloister/models"
)

// Bounds of the engine.
const (
	maxQueued    = 64               // requests that wait for a runner
	maxLoaded    = 3                // models in memory at once
	startWait    = 30 * time.Second // how long a call waits for a child that is starting
	healthMisses = 6                // questions unanswered in a row before the child is killed
	firstBackoff = 200 * time.Millisecond
	lastBackoff  = 30 * time.Second
	stopWait     = 5 * time.Second
	stalePartial = 7 * 24 * time.Hour
)

// Config says how to run the engine. Dir is required.
type Config struct {
	Dir     string        // holds the models, the socket and temporary files
	Binary  string        // run as `BINARY engine`; "" = this executable
	Threads int           // for one runner; 0 = cores − 1, at least 1
	Context int           // tokens a completion's prompt and answer may have together; 0 = 4096
	Keep    time.Duration // how long an idle model stays in memory; 0 = 30 minutes
	Reserve int64         // bytes of free disk that an import must leave; 0 = 512 MiB
	Health  time.Duration // how often the child is asked whether it answers; 0 = 10 seconds
	OpenNet bool          // do not put the child into its own network namespace
	Logger  *slog.Logger  // nil = slog.Default()
}

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("the engine needs a folder for its models")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, err
	}
	c.Dir = dir
	if c.Binary == "" {
		if c.Binary, err = os.Executable(); err != nil {
			return c, fmt.Errorf("find this program's own file: %w", err)
		}
	}
	if c.Threads <= 0 {
		c.Threads = max(1, runtime.NumCPU()-1) // its threads spin: taking every core starves the node
	}
	if c.Context <= 0 {
		c.Context = 4096
	}
	if c.Keep <= 0 {
		c.Keep = 30 * time.Minute
	}
	if c.Reserve <= 0 {
		c.Reserve = 512 << 20
	}
	if c.Health <= 0 {
		c.Health = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// Engine supervises the child and speaks to it. It implements models.Engine.
type Engine struct {
	config  Config
	socket  string
	client  *http.Client
	stop    context.CancelFunc
	stopped chan struct{} // closed when the supervisor has ended and no process is left
	puts    sync.Mutex    // one blob is written at a time
	embeds  chan struct{} // holds a token while an embedding request runs

	mu    sync.Mutex
	state state
}

// state is what the supervisor tells the callers. Guarded by Engine.mu.
type state struct {
	ready    chan struct{} // closed while the child answers; replaced when it ends
	last     error         // why the child ended last
	restarts int
	isolated bool
	pid      int
}

var _ models.Engine = (*Engine)(nil)

// Status is what an operator wants to know of the engine.
type Status struct {
	Ready    bool
	Isolated bool   // the child has no network but its own loopback
	Restarts int    // since the node started
	Pid      int    // of the child; 0 = not running
	Reason   string // why it is not ready
}

// Start starts the child and returns at once; calls wait until it answers. The engine ends with the context or with Close.
func Start(ctx context.Context, c Config) (*Engine, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{c.blobs(), c.partials(), c.temp()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("prepare the engine's folder: %w", err)
		}
	}
	ctx, stop := context.WithCancel(ctx)
	e := &Engine{config: c, socket: socketPath(c.Dir), stop: stop, stopped: make(chan struct{}), embeds: make(chan struct{}, 1)}
	e.state.ready = make(chan struct{})
	e.client = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", e.socket)
		},
		MaxIdleConnsPerHost: maxQueued,
		DisableCompression:  true,
	}}
	e.sweepPartials(time.Now().Add(-stalePartial))
	go e.supervise(ctx)
	return e, nil
}

// Close ends the child and its runners and waits until they are gone.
func (e *Engine) Close() error {
	e.stop()
	<-e.stopped
	return nil
}

// Status says how the engine is.
func (e *Engine) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Status{Ready: e.isReady(), Isolated: e.state.isolated, Restarts: e.state.restarts, Pid: e.state.pid}
	switch {
	case s.Ready:
	case e.state.last != nil:
		s.Reason = e.state.last.Error()
	default:
		s.Reason = "starting"
	}
	return s
}

// isReady needs Engine.mu.
func (e *Engine) isReady() bool {
	select {
	case <-e.state.ready:
		return true
	default:
		return false
	}
}

// await returns when the child answers, or ErrUnavailable with the reason.
func (e *Engine) await(ctx context.Context) error {
	e.mu.Lock()
	ready := e.state.ready
	e.mu.Unlock()
	timer := time.NewTimer(startWait)
	defer timer.Stop()
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-e.stopped:
		return fmt.Errorf("%w: the node is stopping", models.ErrUnavailable)
	case <-timer.C:
		return fmt.Errorf("%w (%s): try again, or look at the node's log", models.ErrUnavailable, e.Status().Reason)
	}
}

func (c Config) models() string   { return filepath.Join(c.Dir, "models") }
func (c Config) blobs() string    { return filepath.Join(c.models(), "blobs") }
func (c Config) partials() string { return filepath.Join(c.Dir, "partial") }
func (c Config) temp() string     { return filepath.Join(c.Dir, "tmp") }
