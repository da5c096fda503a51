package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/node/api/wire"
)

func modelCommand() *cobra.Command {
	remove := &cobra.Command{
		Use: "remove NAME", Short: "Remove a model", Args: needs("the model's NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := call(cmd, http.MethodDelete, modelPath(args[0]), nil, nil); err != nil {
				return err
			}
			return say(cmd, "Model %s is removed.", clean(args[0]))
		},
	}
	licence := &cobra.Command{
		Use: "licence NAME", Short: "Print a model's licence", Args: needs("the model's NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var l wire.Licence
			if err := get(cmd, modelPath(args[0])+"/licence", &l); err != nil {
				return err
			}
			return show(cmd, l, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s\n\n%s\n", clean(l.Licence), clean(l.Text))
				return err
			})
		},
	}
	accept := &cobra.Command{
		Use: "accept NAME", Short: "Accept the terms of a model's licence for the installation", Args: needs("the model's NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := call(cmd, http.MethodPost, modelPath(args[0])+"/accept", struct{}{}, nil); err != nil {
				return err
			}
			return say(cmd, "The terms of model %s are accepted.", clean(args[0]))
		},
	}
	return group("model", "Bring models into the house", modelImportCommand(), modelListCommand(), remove, licence, accept)
}

func modelListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the models and the routes that lead to them", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var models []wire.Model
			if err := get(cmd, "/api/v1/models", &models); err != nil {
				return err
			}
			return show(cmd, models, func(w io.Writer) error {
				var rows [][]string
				for _, m := range models {
					usable := "yes"
					if !m.Usable {
						usable = "accept its terms first"
					}
					rows = append(rows, []string{m.Name, m.Kind, size(m.Bytes), dash(m.Licence), usable, dash(strings.Join(m.Routes, ","))})
				}
				if err := table(w, []string{"NAME", "KIND", "SIZE", "LICENCE", "USABLE", "ROUTES"}, rows); err != nil {
					return err
				}
				return showModelNodes(w, models)
			})
		},
	}
}

// showModelNodes says how each node stands with each model, where there are
// several nodes.
func showModelNodes(w io.Writer, models []wire.Model) error {
	var rows [][]string
	for _, m := range models {
		for _, n := range m.Nodes {
			how := n.Stage
			switch {
			case n.Stage == "pulling" && n.Total > 0:
				how = fmt.Sprintf("pulling, %d %% of %s", n.Done*100/n.Total, size(n.Total))
			case n.Why != "":
				how += ": " + clean(n.Why)
			}
			rows = append(rows, []string{m.Name, n.Node, how})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return table(w, []string{"MODEL", "NODE", "STATE"}, rows)
}

func modelPath(name string) string { return "/api/v1/models/" + url.PathEscape(name) }

func modelImportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Import a model pack or a GGUF file; what was interrupted goes on when it is run again", Args: needs("the FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, _ := cmd.Flags().GetString("name")
			in := wire.ImportModel{}
			in.AcceptLicence, _ = cmd.Flags().GetBool("accept-licence")
			if onNode, _ := cmd.Flags().GetBool("on-node"); onNode {
				path, err := filepath.Abs(args[0])
				if err != nil {
					return err
				}
				in.Path = path
			} else {
				hash, err := send(cmd, args[0])
				if err != nil {
					return err
				}
				in.Upload = hash
				if name == "" {
					name = strings.TrimSuffix(filepath.Base(args[0]), filepath.Ext(args[0]))
				}
			}
			return importModel(cmd, name, in)
		},
	}
	cmd.Flags().String("name", "", "what to call the model of a GGUF file; the file's name when not given")
	cmd.Flags().Bool("accept-licence", false, "you have read the licences of its models and accept their terms")
	cmd.Flags().Bool("on-node", false, "FILE lies on the node's disk: send nothing")
	return cmd
}

func importModel(cmd *cobra.Command, name string, in wire.ImportModel) error {
	c, err := dial()
	if err != nil {
		return err
	}
	b := newBar()
	defer b.clear()
	var done *wire.ImportProgress
	err = c.Stream(cmd.Context(), http.MethodPost, "/api/v1/models?name="+url.QueryEscape(name), in, func(kind string, data []byte) error {
		var p wire.ImportProgress
		if err := json.Unmarshal(data, &p); err != nil {
			return err
		}
		if kind == "final" {
			done = &p
			return io.EOF
		}
		b.show("importing", p.Done, p.Total, size(p.Done))
		return nil
	})
	if err != nil {
		return err
	}
	if done == nil {
		return errors.New("the node ended before the import did: run it again")
	}
	b.clear()
	return show(cmd, done, func(w io.Writer) error { return writeImported(w, done) })
}

func writeImported(w io.Writer, p *wire.ImportProgress) error {
	var b strings.Builder
	for _, m := range p.Models {
		fmt.Fprintf(&b, "Model %s (%s, %s) is imported.\n", clean(m.Name), m.Kind, size(m.Bytes))
		if !m.Usable {
			fmt.Fprintf(&b, "  It comes under the %s. Read it with `cloister model licence %s`, then accept it with `cloister model accept %s`.\n", clean(m.Licence), clean(m.Name), clean(m.Name))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
