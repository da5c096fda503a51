package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/node/api/wire"
)

func conversationCommand() *cobra.Command {
	return group("conversation", "List, show, stop, rename and delete your conversations",
		conversationList(), conversationShow(), conversationStop(), conversationRename(), conversationDelete())
}

func conversationList() *cobra.Command {
	list := &cobra.Command{
		Use: "list [--title WORDS]", Short: "List your conversations, the one with the newest question first", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			title, _ := cmd.Flags().GetString("title")
			limit, _ := cmd.Flags().GetInt("limit")
			before, _ := cmd.Flags().GetString("before")
			if limit < 1 || limit > 100 {
				return usagef("--limit is 1 to 100")
			}
			page, err := conversations(cmd, url.Values{"title": {title}, "before": {before}, "limit": {strconv.Itoa(limit)}})
			if err != nil {
				return err
			}
			return show(cmd, page, func(w io.Writer) error { return writeConversations(w, page) })
		},
	}
	list.Flags().String("title", "", "only those with these words in their title")
	list.Flags().Int("limit", 20, "how many, at most 100")
	list.Flags().String("before", "", "go on where the page before ended: its NEXT")
	return list
}

func conversations(cmd *cobra.Command, q url.Values) (page wire.Conversations, err error) {
	err = get(cmd, "/api/v1/conversations?"+q.Encode(), &page)
	return page, err
}

func writeConversations(w io.Writer, page wire.Conversations) error {
	if len(page.Conversations) == 0 {
		_, err := fmt.Fprintln(w, `There are none yet. Begin one: cloister ask "QUESTION", and go on with cloister ask --continue "QUESTION".`)
		return err
	}
	var rows [][]string
	for _, c := range page.Conversations {
		rows = append(rows, []string{c.ID, strconv.Itoa(c.Turns), when(c.Updated), c.State, c.Title})
	}
	if err := table(w, []string{"ID", "QUESTIONS", "NEWEST", "STATE", "TITLE"}, rows); err != nil || page.Next == "" {
		return err
	}
	_, err := fmt.Fprintf(w, "There are older ones: --before %s\n", clean(page.Next))
	return err
}

func conversationShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a conversation's questions and answers", Args: needs("the conversation's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var t wire.Talk
			if err := get(cmd, "/api/v1/conversations/"+url.PathEscape(args[0]), &t); err != nil {
				return err
			}
			return show(cmd, t, func(w io.Writer) error { return writeTalk(w, t) })
		},
	}
}

func writeTalk(w io.Writer, t wire.Talk) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", clean(t.Title))
	for _, r := range t.Runs {
		fmt.Fprintf(&b, "\n> %s  (%s)\n", clean(r.Question), when(r.Started))
		switch a, err := answerOf(r); {
		case r.State != "done":
			fmt.Fprintf(&b, "%s %s\n", r.State, clean(r.Error))
		case err != nil:
			return err
		default:
			if a.Understood != "" && a.Unclear == "" {
				fmt.Fprintf(&b, "Understood as: %s\n", clean(a.Understood))
			}
			fmt.Fprintf(&b, "%s\n", bold.ReplaceAllString(clean(a.Answer), "$1"))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func conversationStop() *cobra.Command {
	return &cobra.Command{
		Use: "stop ID", Short: "Stop the question that is being answered", Args: needs("the conversation's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var t wire.Talk
			if err := get(cmd, "/api/v1/conversations/"+url.PathEscape(args[0])+"?limit=1", &t); err != nil {
				return err
			}
			if len(t.Runs) == 0 {
				return errors.New("its newest question has been forgotten: there is nothing to stop")
			}
			if err := call(cmd, http.MethodDelete, "/api/v1/runs/"+url.PathEscape(t.Runs[0].ID), nil, nil); err != nil {
				return err
			}
			return say(cmd, "Stopped: %s", clean(t.Runs[0].Question))
		},
	}
}

func conversationRename() *cobra.Command {
	return &cobra.Command{
		Use: "rename ID TITLE", Short: "Give a conversation another title", Args: needs("the conversation's ID", "its new TITLE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := call(cmd, http.MethodPatch, "/api/v1/conversations/"+url.PathEscape(args[0]), wire.Title{Title: args[1]}, nil); err != nil {
				return err
			}
			return say(cmd, "Conversation %s is renamed.", clean(args[0]))
		},
	}
}

func conversationDelete() *cobra.Command {
	del := &cobra.Command{
		Use: "delete ID [--yes]", Short: "Delete a conversation with its questions and answers", Args: needs("the conversation's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if yes, _ := cmd.Flags().GetBool("yes"); !yes {
				if err := confirm(cmd, "Its questions and answers are gone for ever.", "delete", "--yes"); err != nil {
					return err
				}
			}
			var gone wire.Forgotten
			if err := call(cmd, http.MethodDelete, "/api/v1/conversations/"+url.PathEscape(args[0]), nil, &gone); err != nil {
				return err
			}
			return show(cmd, gone, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "Deleted, with %d questions.\n%s\n", gone.Turns, clean(gone.Remains))
				return err
			})
		},
	}
	del.Flags().Bool("yes", false, "do not ask")
	return del
}
