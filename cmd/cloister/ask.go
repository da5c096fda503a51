package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cloister-os/cloister/node/api/wire"
)

func askCommand() *cobra.Command {
	ask := &cobra.Command{
		Use: `ask "QUESTION" [--continue | --conversation ID]`, Short: "Ask a question about what the sources hold", Args: cobra.ArbitraryArgs,
		Long: "Ask a question about what the sources hold.\n\n" +
			"A question may lean on those before it in the same conversation: \"and who changed it before that?\",\n" +
			"\"when was that?\", \"who else?\", \"why?\". --continue goes on with your newest conversation.\n" +
			"Without a question, on a terminal, it asks for one line after the other.",
		RunE: func(cmd *cobra.Command, args []string) error {
			q := wire.Question{Question: strings.TrimSpace(strings.Join(args, " "))}
			var err error
			if q.Conversation, err = conversationToGoOn(cmd); err != nil {
				return err
			}
			if q.Question == "" {
				if wantsJSON(cmd) || !term.IsTerminal(int(os.Stdin.Fd())) {
					return usagef("the QUESTION is missing")
				}
				return askLines(cmd, q.Conversation)
			}
			_, err = askOne(cmd, q)
			return err
		},
	}
	ask.Flags().BoolP("continue", "c", false, "go on with your newest conversation")
	ask.Flags().String("conversation", "", "go on with this conversation: an ID that cloister conversation list shows")
	return ask
}

// conversationToGoOn is what the flags say; "" begins another.
func conversationToGoOn(cmd *cobra.Command) (string, error) {
	id, _ := cmd.Flags().GetString("conversation")
	on, _ := cmd.Flags().GetBool("continue")
	if !on {
		return id, nil
	}
	if id != "" {
		return "", usagef("say --continue or --conversation, not both")
	}
	page, err := conversations(cmd, url.Values{"limit": {"1"}})
	if err == nil && len(page.Conversations) == 0 {
		err = errors.New("there is no conversation to go on with: ask without --continue")
	}
	if err != nil {
		return "", err
	}
	return page.Conversations[0].ID, nil
}

// askOne asks a question and prints the answer.
func askOne(cmd *cobra.Command, q wire.Question) (a wire.Answer, err error) {
	if !wantsJSON(cmd) && isTerminal(cmd.OutOrStdout()) {
		return askLive(cmd, q)
	}
	if err := call(cmd, http.MethodPost, "/api/v1/ask", q, &a); err != nil {
		return a, err
	}
	return a, show(cmd, a, func(w io.Writer) error { return writeAnswer(w, a) })
}

// askLines asks for one question after the other, in one conversation, until the
// input ends.
func askLines(cmd *cobra.Command, conversation string) error {
	w := cmd.OutOrStdout()
	fmt.Fprintln(w, "Ask, one question a line; a question may lean on those before. End with Ctrl-D.")
	lines := bufio.NewScanner(cmd.InOrStdin())
	for {
		fmt.Fprint(w, "? ")
		if !lines.Scan() {
			fmt.Fprintln(w)
			return lines.Err()
		}
		question := strings.TrimSpace(lines.Text())
		if question == "" {
			continue
		}
		a, err := askOne(cmd, wire.Question{Question: question, Conversation: conversation})
		switch {
		case cmd.Context().Err() != nil:
			return cmd.Context().Err()
		case err != nil:
			fmt.Fprintf(cmd.ErrOrStderr(), "cloister: %s\n", clean(err.Error()))
		default:
			conversation = a.Conversation
		}
		fmt.Fprintln(w)
	}
}

// askLive shows the run's stages while it runs.
func askLive(cmd *cobra.Command, q wire.Question) (a wire.Answer, err error) {
	c, err := dial()
	if err != nil {
		return a, err
	}
	b, w := newBar(), cmd.OutOrStdout()
	defer b.clear()
	ended := false
	err = c.Stream(cmd.Context(), http.MethodPost, "/api/v1/ask", q, func(kind string, data []byte) error {
		var ev wire.Event
		if err := json.Unmarshal(data, &ev); err != nil {
			return err
		}
		switch kind {
		case "stage":
			var s struct {
				Step       string
				Number, Of int64
			}
			if err := json.Unmarshal(ev.Data, &s); err != nil {
				return err
			}
			b.show(s.Step, s.Number, s.Of, "")
		case "failed":
			b.clear()
			var why struct{ Error string }
			if err := json.Unmarshal(ev.Data, &why); err != nil {
				return err
			}
			return fmt.Errorf("the run failed: %s", clean(why.Error))
		case "cancelled":
			return errors.New("the run was stopped")
		case "final":
			b.clear()
			ended = true
			if err := json.Unmarshal(ev.Data, &a); err != nil {
				return err
			}
			return writeAnswer(w, a)
		}
		return nil
	})
	if err == nil && !ended {
		err = errors.New("the node ended before the answer did: ask again")
	}
	return a, err
}

// answerOf is the answer of a run that is done.
func answerOf(r wire.Run) (a wire.Answer, err error) {
	if r.State == "done" {
		err = json.Unmarshal(r.Result, &a)
	}
	return a, err
}

// bold is how an answer marks what was asked for.
var bold = regexp.MustCompile(`\*\*([^*\n]+)\*\*`)

// writeAnswer prints an answer with its citations and how fresh they are.
func writeAnswer(w io.Writer, a wire.Answer) error {
	var b strings.Builder
	if a.Understood != "" && a.Unclear == "" {
		fmt.Fprintf(&b, "Understood as: %s\n", clean(a.Understood))
		for _, r := range a.Resolved {
			fmt.Fprintf(&b, "  “%s”: %s\n", clean(r.Words), clean(r.Means))
		}
		b.WriteByte('\n')
	}
	text := strings.TrimSpace(clean(a.Answer))
	if isTerminal(w) {
		text = bold.ReplaceAllString(text, "\x1b[1m$1\x1b[22m")
	}
	fmt.Fprintln(&b, text)
	for i, c := range a.Citations {
		if i == 0 {
			b.WriteString("\nCited:\n")
		}
		fmt.Fprintf(&b, "  [%d] %s: %s\n", i+1, clean(c.Source), clean(c.Title))
		fmt.Fprintf(&b, "      %q\n", strings.Join(strings.Fields(clean(c.Text)), " "))
		fmt.Fprintf(&b, "      record %s, version %d, bytes %d to %d\n", clean(c.Record), c.Version, c.Start, c.End)
	}
	for _, m := range a.Memories {
		if m.Role == "agrees" || m.Role == "beside" {
			fmt.Fprintf(&b, "\n%s\n", clean(m.Sentence))
		}
		switch {
		case m.Forgotten:
		case m.Role == "kept":
			fmt.Fprintf(&b, "\nUndo: cloister memory undo %s\n", m.ID)
		default:
			fmt.Fprintf(&b, "\nWhy: cloister memory show %s\n", m.ID)
		}
	}
	for i, f := range a.Freshness {
		if i == 0 {
			b.WriteString("\nHow fresh:\n")
		}
		fmt.Fprintf(&b, "  %s %s\n", clean(f.Source), age(f.AsOf))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func age(t time.Time) string {
	if t.IsZero() {
		return "has not been read whole yet"
	}
	return fmt.Sprintf("as of %s, %s ago", when(t), time.Since(t).Round(time.Second))
}
