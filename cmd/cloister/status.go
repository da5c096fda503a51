package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/node/api/wire"
)

func statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say how the node is", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := dial()
			if err != nil {
				return err
			}
			var s wire.Status
			if err := c.Do(cmd.Context(), http.MethodGet, "/api/v1/status", nil, &s); err != nil {
				return err
			}
			return show(cmd, s, func(w io.Writer) error { return writeStatus(w, s) })
		},
	}
}

func writeStatus(w io.Writer, s wire.Status) error {
	engine, state := s.Engine.State, "writable"
	if s.Engine.Reason != "" {
		engine += ": " + s.Engine.Reason
	}
	if s.Store.ReadOnly != "" {
		state = "read-only: " + s.Store.ReadOnly
	}
	rows := [][]string{
		{"node", s.Node + ", version " + s.Version + ", up since " + when(s.Started)},
		{"you", s.User},
		{"store", fmt.Sprintf("version %d, %s", s.Store.Applied, state)},
		{"engine", engine},
		{"models", dash(strings.Join(s.Models, ", "))},
		{"audit log key", s.LogKey},
	}
	if b := s.Blobs; b.Missing > 0 {
		rows = append(rows, []string{"documents", fmt.Sprintf("%d with %s are still to come from other nodes", b.Missing, size(b.MissingBytes))})
	}
	if b := s.Blobs; b.Damaged > 0 {
		rows = append(rows, []string{"damage", fmt.Sprintf("%d documents were found damaged on this node's disk, %d of them repaired: look at the disk", b.Damaged, b.Repaired)})
	}
	for _, w := range s.Warnings {
		rows = append(rows, []string{"warning", w})
	}
	for _, src := range s.Sources {
		rows = append(rows, []string{"source " + src.Name, shortState(src) + ", as of " + when(src.AsOf)})
	}
	for _, r := range rows {
		if _, err := fmt.Fprintf(w, "%-14s %s\n", clean(r[0]), clean(r[1])); err != nil {
			return err
		}
	}
	return nil
}

func shortState(s wire.SourceShort) string {
	switch {
	case s.Running:
		return s.Stage
	case s.Error != "":
		return "failed: " + s.Error
	}
	return "synced"
}
