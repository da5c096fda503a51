package main

import (
	"errors"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/cmd/cloister/client"
	"github.com/cloister-os/cloister/node/api/wire"
)

func loginCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "login --user NAME", Short: "Sign in to a node and remember it", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := client.Load()
			if err != nil && !errors.Is(err, client.ErrNoProfile) {
				return err
			}
			return login(cmd, p)
		},
	}
	cmd.Flags().String("url", "", "where to sign in, https://HOST:PORT: a node, the service name, or several nodes with commas between")
	cmd.Flags().String("ca", "", "the node's certificate authority, tls/ca.pem in its data folder")
	cmd.Flags().String("user", "", "your name")
	addPasswordFlag(cmd)
	return cmd
}

func login(cmd *cobra.Command, p client.Profile) error {
	if u, _ := cmd.Flags().GetString("url"); u != "" {
		p.URL = u
	}
	if file, _ := cmd.Flags().GetString("ca"); file != "" {
		ca, err := client.ReadCA(file)
		if err != nil {
			return err
		}
		p.CA = ca
	}
	if u, _ := cmd.Flags().GetString("user"); u != "" {
		p.User = u
	}
	if p.URL == "" {
		return usagef("say where the node is: --url https://HOST:PORT --ca ca.pem")
	}
	if p.User == "" {
		return usagef("say who you are: --user NAME")
	}
	password, err := readPassword(cmd, false)
	if err != nil {
		return err
	}
	p.Token = ""
	c, err := client.New(p)
	if err != nil {
		return err
	}
	var session wire.Session
	if err := c.Do(cmd.Context(), http.MethodPost, "/api/v1/login", wire.Login{User: p.User, Password: password}, &session); err != nil {
		return err
	}
	p.Token = session.Token // and the name as it was typed: a person's own is not always what they sign in with
	if err := p.Save(); err != nil {
		return err
	}
	return signedIn(cmd, p, "")
}
