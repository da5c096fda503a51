package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/node/api/wire"
)

func costCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "cost", Short: "Say what was spent, by agent, use case, person and model", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			days, _ := cmd.Flags().GetInt("days")
			var c wire.Cost
			if err := get(cmd, fmt.Sprintf("/api/v1/cost?days=%d", days), &c); err != nil {
				return err
			}
			return show(cmd, c, func(w io.Writer) error {
				var rows [][]string
				for _, l := range c.Lines {
					rows = append(rows, []string{l.By, l.ID, fmt.Sprintf("%.6f", float64(l.NanoUSD)/1e9), fmt.Sprint(l.Calls), fmt.Sprint(l.TokensIn), fmt.Sprint(l.TokensOut)})
				}
				return table(w, []string{"BY", "ID", "USD", "CALLS", "TOKENS IN", "TOKENS OUT"}, rows)
			})
		},
	}
	cmd.Flags().Int("days", 30, "of the last so many days")
	return cmd
}
