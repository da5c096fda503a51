package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/node/api/wire"
)

func auditCommand() *cobra.Command {
	checkpoint := &cobra.Command{
		Use: "checkpoint", Short: "Print the log's signed state; an auditor keeps it for cloister-verify --after", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c wire.Checkpoint
			if err := get(cmd, "/api/v1/audit/checkpoint", &c); err != nil {
				return err
			}
			return show(cmd, c, func(w io.Writer) error {
				_, err := io.WriteString(w, c.Note)
				return err
			})
		},
	}
	help := &cobra.Command{
		Use: "verify-help", Short: "Say how an auditor verifies an export", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c wire.Checkpoint
			if err := get(cmd, "/api/v1/audit/checkpoint", &c); err != nil {
				return err
			}
			v := map[string]string{"log_key": c.LogKey, "command": "cloister-verify --log-key " + c.LogKey + " audit.bundle"}
			return show(cmd, v, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, verifyHelp, v["command"])
				return err
			})
		},
	}
	return group("audit", "Read and take away the signed record of what was done", auditListCommand(), auditShowCommand(), auditExportCommand(), checkpoint, help)
}

const verifyHelp = `On the auditor's machine, which needs no access to this one:

  %s

Compare the fingerprint with the one noted at setup: a bundle cannot vouch for
itself. With --after FILE, where FILE is an earlier output of
"cloister audit checkpoint", a log that was cut or rewritten since is refused.
`

func auditListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List records, newest first", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := auditQuery(cmd)
			if err != nil {
				return err
			}
			var page wire.Records
			if err := get(cmd, "/api/v1/audit/records?"+q.Encode(), &page); err != nil {
				return err
			}
			return show(cmd, page, func(w io.Writer) error { return writeRecords(w, page) })
		},
	}
	f := cmd.Flags()
	f.String("kind", "", "intent, outcome, refusal or event")
	f.String("actor", "", "who acted: an id")
	f.String("action", "", "what was done, like source.fetch")
	f.String("resource", "", "on what: TYPE:ID, or TYPE")
	f.String("run", "", "in which run")
	f.String("decision", "", "allow or deny")
	f.String("status", "", "how it ended: ok, failed or in-doubt")
	f.String("since", "", "not before this time (RFC 3339)")
	f.String("until", "", "before this time (RFC 3339)")
	f.Uint64("before", 0, "only records with a smaller number")
	f.Bool("oldest", false, "oldest first")
	f.Int("limit", 50, "at most so many")
	return cmd
}

func auditShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show NUMBER", Short: "Print one record as it was hashed", Args: needs("the record's NUMBER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			seq, err := strconv.ParseUint(args[0], 10, 63)
			if err != nil {
				return usagef("a record has a number, like 17, not %q", args[0])
			}
			var r wire.Record
			if err := get(cmd, fmt.Sprintf("/api/v1/audit/records/%d", seq), &r); err != nil {
				return err
			}
			return show(cmd, r, func(w io.Writer) error {
				if proof, _ := cmd.Flags().GetBool("proof"); proof {
					if r.Proof == "" {
						return fmt.Errorf("record %d is not signed yet: ask again in a second", seq)
					}
					_, err := io.WriteString(w, r.Proof)
					return err
				}
				_, err := fmt.Fprintf(w, "%s\n", r.Record)
				return err
			})
		},
	}
	cmd.Flags().Bool("proof", false, "print the proof that the newest signed checkpoint holds it (C2SP tlog-proof)")
	return cmd
}

func auditQuery(cmd *cobra.Command) (url.Values, error) {
	q := url.Values{}
	f := cmd.Flags()
	for _, name := range []string{"kind", "actor", "action", "resource", "run", "decision", "status", "since", "until"} {
		v, _ := f.GetString(name)
		if v == "" {
			continue
		}
		if name == "since" || name == "until" {
			if _, err := time.Parse(time.RFC3339, v); err != nil {
				return nil, usagef("--%s is a time like 2026-01-31T08:00:00Z", name)
			}
		}
		q.Set(name, v)
	}
	if before, _ := f.GetUint64("before"); before > 0 {
		q.Set("before", strconv.FormatUint(before, 10))
	}
	if oldest, _ := f.GetBool("oldest"); oldest {
		q.Set("oldest", "true")
	}
	limit, _ := f.GetInt("limit")
	q.Set("limit", strconv.Itoa(limit))
	return q, nil
}

func writeRecords(w io.Writer, page wire.Records) error {
	var rows [][]string
	for _, r := range page.Records {
		var rec struct {
			Kind, Action, Status, Decision string
			Policies                       []string
			Actor                          struct{ Kind, ID string }
			Resource                       struct{ Type, ID string }
		}
		if err := json.Unmarshal(r.Record, &rec); err != nil {
			return err
		}
		how := rec.Status
		if rec.Kind == "refusal" {
			how = strings.Join(rec.Policies, ",")
		}
		rows = append(rows, []string{
			strconv.FormatUint(r.Seq, 10), when(r.Time), rec.Kind, rec.Action, rec.Resource.Type + ":" + rec.Resource.ID,
			rec.Actor.Kind + ":" + rec.Actor.ID, dash(how),
		})
	}
	if err := table(w, []string{"NUMBER", "TIME", "KIND", "ACTION", "ON", "BY", "HOW"}, rows); err != nil {
		return err
	}
	if page.More && len(page.Records) > 0 {
		_, err := fmt.Fprintf(w, "There are more: --before %d\n", page.Records[len(page.Records)-1].Seq)
		return err
	}
	return nil
}

func auditExportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "export --out FILE", Short: "Write a bundle of the record that cloister-verify checks", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, _ := cmd.Flags().GetString("out")
			if out == "" {
				return usagef("say where to write it: --out FILE")
			}
			var in wire.Export
			in.From, _ = cmd.Flags().GetUint64("from")
			in.To, _ = cmd.Flags().GetUint64("to")
			in.Openings, _ = cmd.Flags().GetBool("openings")
			for name, field := range map[string]*time.Time{"since": &in.Since, "until": &in.Until} {
				v, _ := cmd.Flags().GetString(name)
				if v == "" {
					continue
				}
				var err error
				if *field, err = time.Parse(time.RFC3339, v); err != nil {
					return usagef("--%s is a time like 2026-01-31T08:00:00Z", name)
				}
			}
			return export(cmd, in, out)
		},
	}
	f := cmd.Flags()
	f.String("out", "", "the file to write")
	f.Uint64("from", 0, "the first record")
	f.Uint64("to", 0, "the record after the last; all when not given")
	f.String("since", "", "not before this time (RFC 3339)")
	f.String("until", "", "before this time (RFC 3339)")
	f.Bool("openings", false, "include personal fields that were not forgotten")
	return cmd
}

// export writes the bundle beside its place and moves it there when it is whole.
func export(cmd *cobra.Command, in wire.Export, path string) error {
	c, err := dial()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".cloister-export-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone after the rename
	n, err := c.Download(cmd.Context(), "/api/v1/audit/export", in, f)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	return show(cmd, map[string]any{"file": path, "bytes": n}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s holds the record (%s). Verify it with the command that `cloister audit verify-help` prints.\n", path, size(n))
		return err
	})
}
