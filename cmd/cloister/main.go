// Command cloister is the one binary: the node (serve), its model engine's child
// processes (engine, runner), and the shell that speaks to a node over its HTTP
// API. Only serve opens a data folder.
//
// One command stands in one file. It may import every room.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/models/engine/child"
)

// version is set when the binary is built.
var version = "dev"

func main() {
	// The engine's children come first: nothing of the shell concerns them.
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "engine":
			os.Exit(child.Main())
		case "runner":
			os.Exit(child.Runner(os.Args[2:]))
		}
	}
	os.Exit(run(os.Args[1:]))
}

// run executes one command and returns the process's exit code: 0 only on
// success, 2 when the command line is wrong.
func run(args []string) int {
	if err := noCoreDumps(); err != nil {
		fmt.Fprintln(os.Stderr, "cloister:", err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	root := rootCommand()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	line = clean(line) // it may quote what was typed, or what the node was told
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(os.Stderr, "cloister: %s (see: %s --help)\n", line, cmd.CommandPath())
		return 2
	}
	fmt.Fprintf(os.Stderr, "cloister: %s\n", line)
	return 1
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use: "cloister", Short: "An AI operating system that never leaves the building",
		SilenceErrors: true, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no command %q%s", args[0], suggestion(cmd, args[0]))
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	root.PersistentFlags().Bool("json", false, "print JSON")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		serveCommand(), setupCommand(), loginCommand(), logoutCommand(), statusCommand(), sourceCommand(), askCommand(), conversationCommand(), memoryCommand(),
		modelCommand(), nodeCommand(), certCommand(), backupCommand(), sealCommand(), auditCommand(), keyCommand(), directoryCommand(), policyCommand(), costCommand(), versionCommand(), manCommand(),
	)
	return root
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func suggestion(cmd *cobra.Command, word string) string {
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(word); len(near) > 0 {
		return "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return ""
}

// needs says which arguments a command takes.
func needs(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usagef("%s is missing", names[len(args)])
		case len(args) > len(names):
			return usagef("%q is too much", args[len(names)])
		}
		return nil
	}
}

// group is a command that only has commands below it.
func group(use, short string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no command %q%s", use+" "+args[0], suggestion(cmd, args[0]))
			}
			return usagef("say what to do with %s", use)
		},
	}
	cmd.AddCommand(children...)
	return cmd
}
