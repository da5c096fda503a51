package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/node/api/wire"
)

func policyCommand() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the policies in force", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var policies []wire.Policy
			if err := get(cmd, "/api/v1/policies", &policies); err != nil {
				return err
			}
			return show(cmd, policies, func(w io.Writer) error {
				var rows [][]string
				for _, p := range policies {
					rows = append(rows, []string{p.ID, p.Effect, strings.Join(strings.Fields(p.Comment), " ")})
				}
				return table(w, []string{"ID", "EFFECT", "ABOUT"}, rows)
			})
		},
	}
	showOne := &cobra.Command{
		Use: "show ID", Short: "Print a policy", Args: needs("the policy's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var p wire.Policy
			if err := get(cmd, "/api/v1/policies/"+url.PathEscape(args[0]), &p); err != nil {
				return err
			}
			return show(cmd, p, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, strings.TrimSpace(p.Text))
				return err
			})
		},
	}
	remove := &cobra.Command{
		Use: "remove ID", Short: "Remove a policy", Args: needs("the policy's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := call(cmd, http.MethodDelete, "/api/v1/policies/"+url.PathEscape(args[0]), nil, nil); err != nil {
				return err
			}
			return say(cmd, "Policy %s is removed.", clean(args[0]))
		},
	}
	return group("policy", "See and change who may do what", list, showOne, policyPutCommand(), remove)
}

func policyPutCommand() *cobra.Command {
	return &cobra.Command{
		Use: "put FILE", Short: "Add or replace a policy from a Cedar file (- = standard input)", Args: needs("the policy's FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readPolicy(cmd, args[0])
			if err != nil {
				return err
			}
			m := policyID.FindStringSubmatch(text)
			if m == nil {
				return fmt.Errorf("%s names no policy: begin it with @id(\"NAME\")", args[0])
			}
			if err := call(cmd, http.MethodPut, "/api/v1/policies/"+url.PathEscape(m[1]), wire.NewPolicy{Text: text}, nil); err != nil {
				return err
			}
			return say(cmd, "Policy %s counts from the next call on.", m[1])
		},
	}
}

var policyID = regexp.MustCompile(`@id\("([^"\\]+)"\)`)

const maxPolicy = 64 << 10

func readPolicy(cmd *cobra.Command, file string) (string, error) {
	r := cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, maxPolicy))
	return string(b), err
}
