package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/cmd/cloister/client"
	"github.com/cloister-os/cloister/node/api/wire"
)

func sourceCommand() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the sources, how their last sync went and how fresh they are", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var sources []wire.Source
			if err := get(cmd, "/api/v1/sources", &sources); err != nil {
				return err
			}
			return show(cmd, sources, func(w io.Writer) error {
				var rows [][]string
				for _, s := range sources {
					rows = append(rows, []string{s.Name, s.Kind, dash(s.Node), s.Path, readBy(s.Audience), sourceState(s), when(s.AsOf)})
				}
				return table(w, []string{"NAME", "KIND", "NODE", "PATH", "READ BY", "SYNC", "AS OF"}, rows)
			})
		},
	}
	remove := &cobra.Command{
		Use: "remove NAME", Short: "Disconnect a source and forget what came from it", Args: needs("the source's NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := call(cmd, http.MethodDelete, sourcePath(args[0]), nil, nil); err != nil {
				return err
			}
			return say(cmd, "Source %s is removed.", clean(args[0]))
		},
	}
	return group("source", "Connect systems and keep them fresh", sourceAddCommand(), sourceSyncCommand(), list, sourceAudienceCommand(), sourceAccessCommand(), remove)
}

// readBy is an audience in a column.
func readBy(audience []string) string {
	switch len(audience) {
	case 0:
		return "whoever may"
	case 1:
		return audience[0]
	}
	return fmt.Sprintf("%s and %d more", audience[0], len(audience)-1)
}

func sourcePath(name string) string { return "/api/v1/sources/" + url.PathEscape(name) }

// sourceState says how a source fares: nobody syncs one whose node is away.
func sourceState(s wire.Source) string {
	if !s.Away.IsZero() {
		return fmt.Sprintf("node %s is away since %s", clean(s.Node), when(s.Away))
	}
	return syncState(s.Progress)
}

func syncState(p wire.Progress) string {
	switch {
	case p.Running && p.Total > 0:
		return fmt.Sprintf("%s, %d of %d", p.Stage, p.Done, p.Total)
	case p.Running:
		return p.Stage
	case p.Error != "":
		return "failed: " + p.Error
	case p.Finished.IsZero():
		return "never synced"
	}
	return "synced"
}

func sourceAddCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "add git|files NAME --path PATH", Short: "Connect a git repository or a folder of documents on the node",
		Args: needs("the kind, git or files,", "the source's NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, _ := cmd.Flags().GetString("path")
			if path == "" {
				return usagef("say where it is: --path PATH")
			}
			if args[0] != "git" && args[0] != "files" {
				return usagef("a source is git or files, not %q", args[0])
			}
			path, err := filepath.Abs(path)
			if err != nil {
				return err
			}
			in := wire.NewSource{Name: args[1], Kind: args[0], Path: path}
			in.Audience, _ = cmd.Flags().GetStringSlice("audience")
			in.Node, _ = cmd.Flags().GetString("node")
			var src wire.Source
			if err := call(cmd, http.MethodPost, "/api/v1/sources", in, &src); err != nil {
				return err
			}
			return show(cmd, src, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "Source %s is connected and its first sync has begun.\nWho may read it: %s. They can wait for it with: cloister source sync %s --wait\nChange who may with: cloister source audience %s\n",
					clean(src.Name), clean(strings.Join(src.Audience, ", ")), clean(src.Name), clean(src.Name))
				return err
			})
		},
	}
	cmd.Flags().String("path", "", "the repository or folder, on the node")
	cmd.Flags().String("node", "", "the node whose machine has it, by name; the one that is asked when not given")
	cmd.Flags().StringSlice("audience", nil, "a role, or a group as DIRECTORY/ID, that may read it, again and again; the role user, which is everyone who may ask, when not given")
	return cmd
}

func sourceSyncCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "sync NAME", Short: "Read a source again now", Args: needs("the source's NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dial()
			if err != nil {
				return err
			}
			var job wire.Job
			if err := c.Do(cmd.Context(), http.MethodPost, sourcePath(args[0])+"/sync", struct{}{}, &job); err != nil {
				return err
			}
			if wait, _ := cmd.Flags().GetBool("wait"); !wait {
				return show(cmd, job, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "Source %s is being synced.\n", clean(args[0]))
					return err
				})
			}
			return waitForSync(cmd, c, args[0], job.Job)
		},
	}
	cmd.Flags().Bool("wait", false, "wait until the sync has ended")
	return cmd
}

func waitForSync(cmd *cobra.Command, c *client.Client, name, job string) error {
	last, err := followSync(cmd.Context(), c, name, job)
	if err != nil {
		return err
	}
	if last.Error != "" {
		return fmt.Errorf("the sync of %s failed: %s", clean(name), clean(last.Error))
	}
	return show(cmd, last, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "Source %s is synced: %d records changed, %d bodies read, %d things left out.\n", clean(name), last.Records, last.Bodies, last.Skipped)
		for _, s := range last.Skips {
			if err == nil {
				_, err = fmt.Fprintf(w, "  left out %s: %s\n", clean(s.What), clean(s.Reason))
			}
		}
		return err
	})
}

// followSync draws a sync's progress until the job has ended.
func followSync(ctx context.Context, c *client.Client, name, job string) (last wire.Progress, err error) {
	b := newBar()
	defer b.clear()
	seen := false
	err = c.Stream(ctx, http.MethodGet, sourcePath(name)+"/progress", nil, func(_ string, data []byte) error {
		var p wire.Progress
		if err := json.Unmarshal(data, &p); err != nil {
			return err
		}
		switch {
		case p.Job == job:
			seen, last = true, p
			if !p.Running {
				return io.EOF
			}
		case seen: // ours has ended, and another began at once
			return io.EOF
		}
		count := ""
		if p.Total > 0 {
			count = fmt.Sprintf("%d of %d", p.Done, p.Total)
		} else if p.Done > 0 {
			count = fmt.Sprint(p.Done)
		}
		b.show(clean(name)+": "+p.Stage, p.Done, p.Total, count)
		return nil
	})
	if err == nil && !seen {
		err = fmt.Errorf("the node ended before the sync of %s did: ask again with: cloister source list", clean(name))
	}
	return last, err
}
