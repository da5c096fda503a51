package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// confirm says what cannot be undone and wants a word typed before it is done.
func confirm(cmd *cobra.Command, what, word, flag string) error {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return usagef("%s There is no terminal to ask on: say %s", what, flag)
	}
	fmt.Fprintf(os.Stderr, "%s\nType %s to go on: ", what, word)
	line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 1<<10)).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != word {
		return fmt.Errorf("nothing was done: %q was not typed", word)
	}
	return nil
}
