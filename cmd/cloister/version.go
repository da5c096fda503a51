package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say which version this is", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := map[string]string{"version": version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			return show(cmd, v, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "cloister %s (%s, %s)\n", v["version"], v["go"], v["platform"])
				return err
			})
		},
	}
}
