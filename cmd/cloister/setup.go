package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/cmd/cloister/client"
	"github.com/cloister-os/cloister/node"
	"github.com/cloister-os/cloister/node/api/wire"
)

func setupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "setup --from DIR/setup.json --user NAME", Short: "Complete a node's first start: become its first administrator", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, _ := cmd.Flags().GetString("from")
			user, _ := cmd.Flags().GetString("user")
			if from == "" || user == "" {
				return usagef("say where setup.json is and who you are: --from DIR/setup.json --user NAME")
			}
			return setup(cmd, from, user)
		},
	}
	cmd.Flags().String("from", "", "the file that the node wrote at its first start")
	cmd.Flags().String("user", "", "the first administrator's name")
	addPasswordFlag(cmd)
	return cmd
}

func setup(cmd *cobra.Command, from, user string) error {
	b, err := os.ReadFile(from)
	if os.IsNotExist(err) {
		return fmt.Errorf("there is no %s: the node has not started yet, or its setup is complete (then: cloister login)", from)
	}
	if err != nil {
		return err
	}
	var s node.Setup
	if err := json.Unmarshal(b, &s); err != nil || s.URL == "" || s.Code == "" {
		return fmt.Errorf("%s is not a file that a node wrote", from)
	}
	ca, err := client.ReadCA(s.CA)
	if err != nil {
		return err
	}
	password, err := readPassword(cmd, true)
	if err != nil {
		return err
	}
	p := client.Profile{URL: s.URL, CA: ca}
	c, err := client.New(p)
	if err != nil {
		return err
	}
	var session wire.Session
	if err := c.Do(cmd.Context(), http.MethodPost, "/api/v1/setup", wire.Setup{Code: s.Code, User: user, Password: password}, &session); err != nil {
		return err
	}
	p.User, p.Token = session.User, session.Token
	if err := p.Save(); err != nil {
		return err
	}
	return signedIn(cmd, p, s.LogKey)
}

func signedIn(cmd *cobra.Command, p client.Profile, logKey string) error {
	out := map[string]string{"url": p.URL, "user": p.User}
	if logKey != "" {
		out["log_key"] = logKey
	}
	return show(cmd, out, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "Signed in to %s as %s.\n", p.URL, clean(p.User))
		if err == nil && logKey != "" {
			_, err = fmt.Fprintf(w, "Note the audit log key down, an auditor trusts nothing else: %s\n", logKey)
		}
		return err
	})
}
