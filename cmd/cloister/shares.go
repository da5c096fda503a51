package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cloister-os/cloister/node"
)

func addSharesFlag(cmd *cobra.Command) {
	cmd.Flags().Bool("shares-stdin", false, "when the root key is split: read the shares from standard input, one a line")
}

// askShares asks the holders of a root key for their shares where this command runs:
// one after the other at a terminal, or all from standard input.
func askShares(cmd *cobra.Command) (node.AskShare, error) {
	fromStdin, err := cmd.Flags().GetBool("shares-stdin")
	if err != nil {
		return nil, err
	}
	if fromStdin {
		return sharesFrom(cmd.InOrStdin()), nil
	}
	return promptShare, nil
}

// sharesFrom reads shares, one a line. Nobody is there to mend a wrong one.
func sharesFrom(r io.Reader) node.AskShare {
	lines, n := bufio.NewScanner(io.LimitReader(r, 64<<10)), 0
	return func(_ node.Locked, refused error) (string, error) {
		if refused != nil {
			return "", fmt.Errorf("line %d of standard input: %w", n, refused)
		}
		for lines.Scan() {
			n++
			if s := strings.TrimSpace(lines.Text()); s != "" {
				return s, nil
			}
		}
		if err := lines.Err(); err != nil {
			return "", fmt.Errorf("read the shares: %w", err)
		}
		return "", io.EOF
	}
}

// promptShare asks for one share, which is not shown. An empty line ends it.
func promptShare(now node.Locked, refused error) (string, error) {
	var all, missing []string
	for _, h := range now.Holders {
		all = append(all, h.Name)
		if !h.Given {
			missing = append(missing, h.Name)
		}
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return "", usagef("the root key is split, and %d of %s must bring their shares: there is no terminal to ask on: give them with --shares-stdin, or the root key in a file", now.Need, clean(strings.Join(all, ", ")))
	}
	if refused != nil {
		fmt.Fprintf(os.Stderr, "Not taken: %s.\n", refused)
	}
	fmt.Fprintf(os.Stderr, "%d more of %s must bring their share.\n", now.Missing, clean(strings.Join(missing, ", ")))
	s, err := prompt("Share: ")
	if err == nil && strings.TrimSpace(s) == "" {
		err = io.EOF
	}
	return s, err
}
