package main

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/node/api/wire"
)

func sourceAudienceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "audience NAME", Short: "Show or change who may read a source", Args: needs("the source's NAME"),
		Long: `Show or change who may read a source.

An audience names roles (user, builder, administrator, approver, auditor,
operator), groups of the directory as DIRECTORY/ID, and people by the id that the
audit record has. A policy must let them read sources too; "user" is everyone who
may ask. A change counts from the next read on and is on record. API keys read
the sources that they were granted by name, whatever the audience.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			path := sourcePath(args[0]) + "/audience"
			var now wire.SourceAccess
			if err := get(cmd, path, &now); err != nil {
				return err
			}
			want, changes := changedAudience(cmd, now.Audience)
			if !changes {
				return show(cmd, now, func(w io.Writer) error { return writeReaders(w, now) })
			}
			if len(want) == 0 {
				return usagef("nobody would be left: name who may read %s with --set or --add, or remove the source", clean(args[0]))
			}
			if err := call(cmd, http.MethodPut, path, wire.Audience{Audience: want}, nil); err != nil {
				return err
			}
			if err := get(cmd, path, &now); err != nil {
				return err
			}
			return show(cmd, now, func(w io.Writer) error { return writeReaders(w, now) })
		},
	}
	cmd.Flags().StringSlice("set", nil, "whom to name instead of all that are named now")
	cmd.Flags().StringSlice("add", nil, "whom to name too")
	cmd.Flags().StringSlice("remove", nil, "whom not to name any more")
	cmd.MarkFlagsMutuallyExclusive("set", "add")
	cmd.MarkFlagsMutuallyExclusive("set", "remove")
	return cmd
}

// changedAudience is what the flags make of an audience.
func changedAudience(cmd *cobra.Command, now []string) (want []string, changes bool) {
	set, _ := cmd.Flags().GetStringSlice("set")
	add, _ := cmd.Flags().GetStringSlice("add")
	remove, _ := cmd.Flags().GetStringSlice("remove")
	for _, name := range []string{"set", "add", "remove"} {
		changes = changes || cmd.Flags().Changed(name)
	}
	if cmd.Flags().Changed("set") {
		return set, true
	}
	want = append(slices.Clone(now), add...)
	return slices.DeleteFunc(want, func(x string) bool { return slices.Contains(remove, x) }), changes
}

func sourceAccessCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "access", Short: "Show who may read which source and why, and what nobody may read", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all wire.Access
			if err := get(cmd, "/api/v1/access", &all); err != nil {
				return err
			}
			if who, _ := cmd.Flags().GetString("reader"); who != "" {
				all = ofReader(all, who)
			}
			return show(cmd, all, func(w io.Writer) error { return writeAccess(w, all) })
		},
	}
	cmd.Flags().String("reader", "", "only what this role, group, person or key reads")
	return cmd
}

// ofReader is what one reader has to do with.
func ofReader(all wire.Access, who string) wire.Access {
	out := wire.Access{Sources: []wire.SourceAccess{}, Orphans: []wire.Hidden{}, Keys: all.Keys}
	for _, s := range all.Sources {
		s.Readers = slices.DeleteFunc(slices.Clone(s.Readers), func(r wire.Reader) bool { return r.ID != who })
		if len(s.Readers) > 0 {
			out.Sources = append(out.Sources, s)
		}
	}
	return out
}

func writeAccess(w io.Writer, all wire.Access) error {
	var rows [][]string
	for _, s := range all.Sources {
		for _, r := range s.Readers {
			rows = append(rows, append([]string{s.Source}, readerRow(r)...))
		}
		if s.Nobody {
			rows = append(rows, []string{s.Source, "nobody", "-", "reads it", fmt.Sprintf("%d records are hidden", s.Records)})
		}
	}
	for _, h := range all.Orphans {
		rows = append(rows, []string{h.Source, "nobody", "-", "is not there any more", fmt.Sprintf("%d records are hidden", h.Records)})
	}
	return table(w, []string{"SOURCE", "KIND", "WHO", "READS IT", "WHY"}, rows)
}

func writeReaders(w io.Writer, s wire.SourceAccess) error {
	var rows [][]string
	for _, r := range s.Readers {
		rows = append(rows, readerRow(r))
	}
	if err := table(w, []string{"KIND", "WHO", "READS IT", "WHY"}, rows); err != nil {
		return err
	}
	var say string
	switch {
	case len(s.Audience) == 0:
		say = fmt.Sprintf("It names no audience, so whoever the policies let reads it. Name one with: cloister source audience %s --set user", clean(s.Source))
	case s.Nobody:
		say = fmt.Sprintf("Nobody reads it. Let somebody with: cloister source audience %s --add ROLE", clean(s.Source))
	default:
		return nil
	}
	_, err := fmt.Fprintln(w, say)
	return err
}

func readerRow(r wire.Reader) []string {
	name, reads := r.ID, "no"
	if r.Name != "" {
		name = r.Name + " (" + r.ID + ")"
	}
	switch {
	case r.Reads && len(r.Roles) > 0:
		reads = "with role " + strings.Join(r.Roles, " or ")
	case r.Reads:
		reads = "yes"
	}
	return []string{r.Kind, name, reads, strings.Join(r.Policies, ", ")}
}
