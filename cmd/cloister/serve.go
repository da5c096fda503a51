package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/node"
	"github.com/cloister-os/cloister/node/config"
	"github.com/cloister-os/cloister/node/heap"
	"github.com/cloister-os/cloister/store/threads"
)

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "serve --data DIR", Short: "Run a node", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(cmd.Flags())
			if err != nil {
				return &usageError{err}
			}
			return serve(cmd, cfg)
		},
	}
	config.AddFlags(cmd.Flags())
	return cmd
}

// serve runs the node until it is told to stop. A restore of the cluster makes it
// begin again on what was restored.
func serve(cmd *cobra.Command, cfg config.Config) error {
	threads.Keep()
	go heap.Keep(cmd.Context())
	for {
		err := serveOnce(cmd, cfg)
		if !errors.Is(err, node.ErrRestored) || cmd.Context().Err() != nil {
			return err
		}
		logger(cfg.Log).Warn("The cluster was restored: this node starts again.")
	}
}

func serveOnce(cmd *cobra.Command, cfg config.Config) error {
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	n, err := node.Open(ctx, cfg, version, logger(cfg.Log))
	if err != nil {
		return err
	}
	if err := show(cmd, n.Greeting(), n.Greet); err != nil {
		return errors.Join(err, n.Close())
	}
	return errors.Join(n.Serve(ctx), n.Close())
}

// quietLogger tells of what goes wrong only.
func quietLogger() *slog.Logger { return logger(config.Log{Level: slog.LevelError}) }

func logger(c config.Log) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Level}
	var w io.Writer = os.Stderr
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
