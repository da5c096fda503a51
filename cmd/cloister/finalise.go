package main

import (
	"net/http"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/node/api/wire"
)

func nodeFinaliseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "finalise", Short: "After an upgrade of all nodes: use what the new program brings; there is no way back", Args: needs(),
		Long: `Raises the cluster to the newest data format. Until then the new program writes what
the old one reads, so any node can go back to it. Afterwards an older program is
refused, and the starter policies that permit what is new are added; those that you
changed or removed are left alone, and the log says which were changed. Every node
must run the new program and answer.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if yes, _ := cmd.Flags().GetBool("yes"); !yes {
				if err := confirm(cmd, "After this no node can go back to an older program.", "finalise", "--yes"); err != nil {
					return err
				}
			}
			var out wire.Finalised
			if err := call(cmd, http.MethodPost, "/api/v1/nodes/finalise", nil, &out); err != nil {
				return err
			}
			if out.From == out.To {
				return say(cmd, "The cluster works at format %d already.", out.To)
			}
			return say(cmd, "The cluster works at format %d now; it was %d.", out.To, out.From)
		},
	}
	cmd.Flags().Bool("yes", false, "do not ask")
	return cmd
}
