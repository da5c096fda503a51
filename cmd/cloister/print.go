package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cloister-os/cloister/cmd/cloister/client"
)

// dial returns a client for the profile in force.
func dial() (*client.Client, error) {
	p, err := client.Load()
	if err != nil {
		return nil, err
	}
	return client.New(p)
}

// wantsJSON reports whether --json was given.
func wantsJSON(cmd *cobra.Command) bool {
	on, err := cmd.Flags().GetBool("json")
	return err == nil && on
}

// show prints a value as JSON, or what text writes.
func show(cmd *cobra.Command, v any, text func(w io.Writer) error) error {
	out := cmd.OutOrStdout()
	if !wantsJSON(cmd) {
		return text(out)
	}
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	if isTerminal(out) {
		e.SetIndent("", "  ")
	}
	return e.Encode(v)
}

// say prints one line for people; with --json it prints {"ok":true}.
func say(cmd *cobra.Command, format string, args ...any) error {
	return show(cmd, map[string]bool{"ok": true}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, format+"\n", args...)
		return err
	})
}

// table prints rows in columns. What comes from elsewhere is made safe for a
// terminal.
func table(w io.Writer, head []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(head, "\t"))
	for _, r := range rows {
		for i := range r {
			r[i] = clean(r[i])
		}
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	return t.Flush()
}

// clean takes out of a text what could move a terminal's cursor.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) && r != ' ' {
			return '�'
		}
		return r
	}, s)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// when is a time for people, "-" when it is not known.
func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// size is a number of bytes for people.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/unit, 0
	for f >= unit && i < 4 {
		f, i = f/unit, i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[i])
}
