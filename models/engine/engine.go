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
	"log/slog"
	"time"
)

// Config says how to run the engine. Dir is required.
type Config struct {
	Dir     string        // holds the models, the socket and temporary files
	Binary  string        // run as `BINARY engine`; "" = this executable
	Threads int           // for one runner; 0 = cores − 1, at least 1
	Context int           // tokens a completion's prompt and answer may have together; 0 = 4096
	Keep    time.Duration // how long an idle model stays in memory; 0 = 5 minutes
	Reserve int64         // bytes of free disk that an import must leave; 0 = 512 MiB
	OpenNet bool          // do not put the child into its own network namespace
	Logger  *slog.Logger  // nil = slog.Default()
}

// Engine supervises the child and speaks to it. It implements models.Engine.
type Engine struct{}

// Start starts the child and returns at once; calls wait until it answers. The
// engine ends with the context.
func Start(ctx context.Context, c Config) (*Engine, error) { return &Engine{}, nil }
