package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func addPasswordFlag(cmd *cobra.Command) {
	cmd.Flags().Bool("password-stdin", false, "read the password from standard input, one line")
}

// readPassword reads a password from standard input, or asks for it on a
// terminal, twice when it is a new one.
func readPassword(cmd *cobra.Command, fresh bool) (string, error) {
	fromStdin, err := cmd.Flags().GetBool("password-stdin")
	if err != nil {
		return "", err
	}
	if fromStdin {
		return firstLine(cmd.InOrStdin())
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return "", usagef("there is no terminal to ask for the password: give it with --password-stdin")
	}
	first, err := prompt("Password: ")
	if err != nil || !fresh {
		return first, err
	}
	second, err := prompt("Once more: ")
	if err == nil && first != second {
		err = errors.New("the two passwords differ: try again")
	}
	return first, err
}

func firstLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, 64<<10)).ReadString('\n')
	line = strings.TrimRight(line, "\r\n")
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	if line == "" {
		return "", errors.New("standard input holds no password")
	}
	return line, nil
}

func prompt(text string) (string, error) {
	fmt.Fprint(os.Stderr, text)
	b, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(os.Stderr)
	if err != nil {
		return "", fmt.Errorf("read from the terminal: %w", err)
	}
	return string(b), nil
}
