package main

import (
	"net/http"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/cmd/cloister/client"
)

func logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use: "logout", Short: "End the session and forget its token", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := client.Load()
			if err != nil {
				return err
			}
			c, err := client.New(p)
			if err != nil {
				return err
			}
			ended := c.Do(cmd.Context(), http.MethodPost, "/api/v1/logout", struct{}{}, nil)
			// The token is forgotten here even when the node did not hear of it.
			p.Token = ""
			if err := p.Save(); err != nil {
				return err
			}
			if ended != nil {
				return ended
			}
			return say(cmd, "Signed out of %s.", p.URL)
		},
	}
}
