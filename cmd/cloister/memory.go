package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/node/api/wire"
)

func memoryCommand() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List what you told, newest first", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []wire.Memory
			if err := get(cmd, "/api/v1/memories", &all); err != nil {
				return err
			}
			if everything, _ := cmd.Flags().GetBool("all"); !everything {
				all = inForce(all)
			}
			return show(cmd, all, func(w io.Writer) error { return writeMemories(w, all) })
		},
	}
	list.Flags().Bool("all", false, "with those that newer ones took the place of")
	explain := &cobra.Command{
		Use: "show ID", Short: "Say why something is remembered, and how it is used", Args: needs("the memory's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var m wire.ExplainedMemory
			if err := get(cmd, memoryPath(args[0]), &m); err != nil {
				return err
			}
			return show(cmd, m, func(w io.Writer) error { return writeMemory(w, m) })
		},
	}
	add := &cobra.Command{
		Use: `add "FACT"`, Short: "Remember a fact, said in one sentence", Args: needs("the FACT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var m wire.Memory
			if err := call(cmd, http.MethodPost, "/api/v1/memories", wire.NewMemory{Text: args[0]}, &m); err != nil {
				return err
			}
			return show(cmd, m, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "I will remember: “%s” (%s)\n", clean(m.Words), m.ID)
				return err
			})
		},
	}
	edit := &cobra.Command{
		Use: `edit ID "FACT"`, Short: "Put a correction in a memory's place", Args: needs("the memory's ID", "the FACT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var m wire.Memory
			if err := call(cmd, http.MethodPut, memoryPath(args[0]), wire.NewMemory{Text: args[1]}, &m); err != nil {
				return err
			}
			return show(cmd, m, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "Corrected: “%s” (%s)\n", clean(m.Words), m.ID)
				return err
			})
		},
	}
	undo := &cobra.Command{
		Use: "undo ID", Short: "Forget a memory alone; the one whose place it took is back", Args: needs("the memory's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := call(cmd, http.MethodPost, memoryPath(args[0])+"/undo", nil, nil); err != nil {
				return err
			}
			return say(cmd, "Undone.")
		},
	}
	return group("memory", "List, explain, correct and forget what you told", list, explain, add, edit, undo, memoryForgetCommand())
}

func memoryForgetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "forget ID | --all", Short: "Forget a fact, as it is and as it was, or everything that you told", Args: cobra.MaximumNArgs(1),
		Long: `Forgetting destroys the key that opens a memory: no answer uses it any more, answers
that used it no longer show its words, and no past version can be read. A backup
made before holds it, sealed, until that backup is deleted; a restore from it
forgets it again where the list of what was forgotten is still there: on every
running node, and beside the backups.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			all, _ := cmd.Flags().GetBool("all")
			yes, _ := cmd.Flags().GetBool("yes")
			if all == (len(args) == 1) {
				return usagef("say which memory to forget by its ID, or --all")
			}
			path := "/api/v1/memories"
			if !all {
				path = memoryPath(args[0])
			}
			if all && !yes {
				if err := confirm(cmd, "Everything that you told is forgotten and cannot be brought back.", "forget", "--yes"); err != nil {
					return err
				}
			}
			var out wire.ForgottenMemories
			if err := call(cmd, http.MethodDelete, path, nil, &out); err != nil {
				return err
			}
			return show(cmd, out, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "Forgotten: %d.\n", out.Forgotten)
				return err
			})
		},
	}
	cmd.Flags().Bool("all", false, "everything that you told")
	cmd.Flags().Bool("yes", false, "do not ask")
	return cmd
}

func memoryPath(id string) string { return "/api/v1/memories/" + url.PathEscape(id) }

func inForce(all []wire.Memory) []wire.Memory {
	out := []wire.Memory{}
	for _, m := range all {
		if m.SupersededBy == "" {
			out = append(out, m)
		}
	}
	return out
}

func writeMemories(w io.Writer, all []wire.Memory) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, `Nothing is remembered yet. Tell something: cloister ask "our release day is Thursday"`)
		return err
	}
	var rows [][]string
	for _, m := range all {
		rows = append(rows, []string{m.ID, m.Words, when(m.Created), memoryState(m), fmt.Sprint(m.Uses)})
	}
	return table(w, []string{"ID", "YOU TOLD", "WHEN", "STATE", "USED"}, rows)
}

func memoryState(m wire.Memory) string {
	switch {
	case m.SupersededBy != "":
		return "replaced"
	case !m.Until.IsZero() && !time.Now().Before(m.Until):
		return "over"
	case !m.Until.IsZero():
		return "until " + m.Until.Add(-time.Second).Format("2006-01-02")
	}
	return "in force"
}

func writeMemory(w io.Writer, m wire.ExplainedMemory) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", clean(m.Words))
	where := "written as a memory"
	if m.Evidence.Run != "" {
		where = "said in run " + m.Evidence.Run
	}
	fmt.Fprintf(&b, "  because    you said %q, bytes %d to %d\n", clean(m.Evidence.Said), m.Evidence.Start, m.Evidence.End)
	fmt.Fprintf(&b, "  when       %s, %s\n", when(m.Created), where)
	fmt.Fprintf(&b, "  state      %s\n", memoryState(m.Memory))
	fmt.Fprintf(&b, "  used       %d times, last %s\n", m.Uses, when(m.LastUsed))
	if len(m.Chain) > 1 {
		b.WriteString("\nSaid of it, newest first:\n")
		for _, c := range m.Chain {
			fmt.Fprintf(&b, "  %s  %s  %s\n", c.ID, when(c.Created), clean(c.Words))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
