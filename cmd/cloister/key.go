package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/node/api/wire"
)

func keyCommand() *cobra.Command {
	create := &cobra.Command{
		Use: "create NAME --scope S [--source SOURCE]", Short: "Create an API key and print its secret, once", Args: needs("the key's NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := wire.NewKey{Name: args[0]}
			in.Scopes, _ = cmd.Flags().GetStringSlice("scope")
			in.Sources, _ = cmd.Flags().GetStringSlice("source")
			ttl, _ := cmd.Flags().GetDuration("ttl")
			if len(in.Scopes) == 0 {
				return usagef("say what the key may do: --scope ask, source, model, audit, key or policy")
			}
			if ttl < 0 || ttl%time.Hour != 0 {
				return usagef("--ttl is a number of whole hours, like 720h")
			}
			in.Hours = int(ttl / time.Hour)
			return createKey(cmd, in)
		},
	}
	create.Flags().StringSlice("scope", nil, "what it may do: ask, source, model, audit, key, policy")
	create.Flags().StringSlice("source", nil, "a source it may reach")
	create.Flags().Duration("ttl", 0, "how long it is valid, in hours; 90 days when not given")
	list := &cobra.Command{
		Use: "list", Short: "List the API keys", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var keys []wire.Key
			if err := get(cmd, "/api/v1/keys", &keys); err != nil {
				return err
			}
			return show(cmd, keys, func(w io.Writer) error {
				var rows [][]string
				for _, k := range keys {
					rows = append(rows, []string{k.ID, k.Name, strings.Join(k.Scopes, ","), dash(strings.Join(k.Sources, ",")), when(k.Expires)})
				}
				return table(w, []string{"ID", "NAME", "SCOPES", "SOURCES", "EXPIRES"}, rows)
			})
		},
	}
	revoke := &cobra.Command{
		Use: "revoke ID", Short: "End an API key at once", Args: needs("the key's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := call(cmd, http.MethodDelete, "/api/v1/keys/"+url.PathEscape(args[0]), nil, nil); err != nil {
				return err
			}
			return say(cmd, "Key %s is revoked.", clean(args[0]))
		},
	}
	return group("key", "Create, list and revoke API keys", create, list, revoke)
}

func createKey(cmd *cobra.Command, in wire.NewKey) error {
	var k wire.Key
	if err := call(cmd, http.MethodPost, "/api/v1/keys", in, &k); err != nil {
		return err
	}
	return show(cmd, k, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s\nThis secret is shown only now. The key's id is %s; it expires on %s.\n", k.Secret, k.ID, when(k.Expires))
		return err
	})
}

// call is one exchange with the node of the profile.
func call(cmd *cobra.Command, method, path string, in, out any) error {
	c, err := dial()
	if err != nil {
		return err
	}
	return c.Do(cmd.Context(), method, path, in, out)
}

func get(cmd *cobra.Command, path string, out any) error {
	return call(cmd, http.MethodGet, path, nil, out)
}
