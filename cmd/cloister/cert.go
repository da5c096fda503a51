package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/node/api/wire"
)

func certCommand() *cobra.Command {
	return group("cert", "The certificate that browsers see: show, request, import, remove",
		certShowCommand(), certRequestCommand(), certImportCommand(), certRemoveCommand())
}

func certShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Say which certificate browsers see", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c wire.Certificate
			if err := get(cmd, "/api/v1/certificate", &c); err != nil {
				return err
			}
			return show(cmd, c, func(w io.Writer) error { return writeCertificate(w, c) })
		},
	}
}

func writeCertificate(w io.Writer, c wire.Certificate) error {
	kind := "internal"
	if c.Organisation {
		kind = "of the organisation"
	}
	rows := [][2]string{{"certificate", kind}, {"for", strings.Join(c.Names, ", ")}, {"issued by", c.Issuer}, {"valid until", when(c.Until)}}
	if c.Warning != "" {
		rows = append(rows, [2]string{"warning", c.Warning})
	}
	for _, r := range rows {
		if _, err := fmt.Fprintf(w, "%-12s %s\n", r[0], clean(r[1])); err != nil {
			return err
		}
	}
	return nil
}

func certRequestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "request [--name HOST]…", Short: "Make the request that the organisation's authority signs", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var in wire.CertificateNames
			in.Names, _ = cmd.Flags().GetStringSlice("name")
			in.Organisation, _ = cmd.Flags().GetString("organisation")
			out, _ := cmd.Flags().GetString("out")
			var r wire.SigningRequest
			if err := call(cmd, http.MethodPost, "/api/v1/certificate/request", in, &r); err != nil {
				return err
			}
			if out != "" {
				if err := os.WriteFile(out, []byte(r.Request), 0o644); err != nil {
					return err
				}
				return say(cmd, "The request is in %s. Let your authority sign it, then run: cloister cert import CHAIN.pem", out)
			}
			return show(cmd, r, func(w io.Writer) error {
				_, err := io.WriteString(w, r.Request)
				return err
			})
		},
	}
	cmd.Flags().StringSlice("name", nil, "a host name or an address that it is for; those of the node when none is given")
	cmd.Flags().String("organisation", "", "the organisation's name, for the request")
	cmd.Flags().StringP("out", "o", "", "write the request to this file")
	return cmd
}

// maxChainFile is more than the node takes, so that the node says what is wrong.
const maxChainFile = 64 << 10

func certImportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "import CHAIN.pem", Short: "Put the organisation's certificate in force on all nodes", Args: needs("the file with the CHAIN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			chain, err := io.ReadAll(io.LimitReader(f, maxChainFile))
			if err != nil {
				return err
			}
			var c wire.Certificate
			if err := call(cmd, http.MethodPut, "/api/v1/certificate", wire.CertificateChain{Chain: string(chain)}, &c); err != nil {
				return err
			}
			return show(cmd, c, func(w io.Writer) error { return writeCertificate(w, c) })
		},
	}
}

func certRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove", Short: "Go back to the internal certificate", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := call(cmd, http.MethodDelete, "/api/v1/certificate", nil, nil); err != nil {
				return err
			}
			return say(cmd, "Browsers see the internal certificate.")
		},
	}
}
