package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/node/api/wire"
)

func askCommand() *cobra.Command {
	return &cobra.Command{
		Use: `ask "QUESTION"`, Short: "Ask a question about what the sources hold", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			question := strings.TrimSpace(strings.Join(args, " "))
			if question == "" {
				return usagef("the QUESTION is missing")
			}
			if wantsJSON(cmd) || !isTerminal(cmd.OutOrStdout()) {
				var a wire.Answer
				if err := call(cmd, http.MethodPost, "/api/v1/ask", wire.Question{Question: question}, &a); err != nil {
					return err
				}
				return show(cmd, a, func(w io.Writer) error { return writeAnswer(w, a) })
			}
			return askLive(cmd, question)
		},
	}
}

// askLive shows the run's stages while it runs.
func askLive(cmd *cobra.Command, question string) error {
	c, err := dial()
	if err != nil {
		return err
	}
	b, w := newBar(), cmd.OutOrStdout()
	defer b.clear()
	ended := false
	err = c.Stream(cmd.Context(), http.MethodPost, "/api/v1/ask", wire.Question{Question: question}, func(kind string, data []byte) error {
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
			var a wire.Answer
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
	return err
}

// bold is how an answer marks what was asked for.
var bold = regexp.MustCompile(`\*\*([^*\n]+)\*\*`)

// writeAnswer prints an answer with its citations and how fresh they are.
func writeAnswer(w io.Writer, a wire.Answer) error {
	var b strings.Builder
	if a.Understood != "" {
		fmt.Fprintf(&b, "Understood as: %s\n\n", clean(a.Understood))
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
