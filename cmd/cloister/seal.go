package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cloister-os/cloister/cmd/cloister/client"
	"github.com/cloister-os/cloister/node/api/wire"
)

func sealCommand() *cobra.Command {
	return group("seal", "The keys under which a node keeps everything: status, rotate, shares, confirm, unseal, file",
		sealStatusCommand(), sealRotateCommand(), sealSharesCommand(), sealConfirmCommand(), sealUnsealCommand(), sealFileCommand())
}

func sealStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "status", Short: "Show how the node's keys are kept, and how far a change of its data key is", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s wire.Seal
			if err := sealCall(cmd, http.MethodGet, "/api/v1/seal", nil, &s); err != nil {
				return err
			}
			return show(cmd, s, func(w io.Writer) error { return writeSeal(w, s) })
		},
	}
	addNodeFlags(cmd)
	return cmd
}

func writeSeal(w io.Writer, s wire.Seal) error {
	if s.Locked != nil {
		return writeLocked(w, *s.Locked)
	}
	line := "The root key lies in a file: the node starts by itself."
	if s.Kind == "shares" {
		line = fmt.Sprintf("The root key is split: %d of %d people must bring their share at each start: %s.", s.Need, len(s.Holders), clean(strings.Join(s.Holders, ", ")))
	}
	if _, err := fmt.Fprintln(w, line); err != nil || s.Rotation == nil {
		return err
	}
	r := s.Rotation
	if _, err := fmt.Fprintf(w, "Data key %d, made %s, seals what this node writes.\n", r.Active.ID, when(r.Active.Created)); err != nil {
		return err
	}
	for _, k := range r.Old {
		if _, err := fmt.Fprintf(w, "Data key %d, made %s, may still be needed.\n", k.ID, when(k.Created)); err != nil {
			return err
		}
	}
	for _, line := range []struct{ what, text string }{{"Sealing anew now", r.Step}, {"Still needs an old key", strings.Join(r.Waiting, "; ")}, {"Problem, tried again soon", r.Problem}} {
		if line.text != "" {
			if _, err := fmt.Fprintf(w, "%s: %s.\n", line.what, clean(line.text)); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeLocked(w io.Writer, l wire.Locked) error {
	if _, err := fmt.Fprintf(w, "The node is sealed: %d of the %d shares that open it are missing.\n", l.Missing, l.Need); err != nil {
		return err
	}
	var rows [][]string
	for _, h := range l.Holders {
		given := "not yet"
		if h.Given {
			given = "yes"
		}
		rows = append(rows, []string{h.Name, given})
	}
	return table(w, []string{"HOLDER", "SHARE HERE"}, rows)
}

func sealRotateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rotate", Short: "Make a new data key for the node and seal everything anew with it, in the background", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var key wire.DataKey
			if err := call(cmd, http.MethodPost, "/api/v1/seal/rotate", nil, &key); err != nil {
				return err
			}
			if wait, _ := cmd.Flags().GetBool("wait"); wait {
				if err := waitRotated(cmd); err != nil {
					return err
				}
				return say(cmd, "Data key %d seals everything on this node; the old key is gone.", key.ID)
			}
			return say(cmd, "Data key %d seals what this node writes from now on. See how far the rest is with: cloister seal status", key.ID)
		},
	}
	cmd.Flags().Bool("wait", false, "wait until nothing needs the old key")
	return cmd
}

func waitRotated(cmd *cobra.Command) error {
	for {
		var s wire.Seal
		if err := get(cmd, "/api/v1/seal", &s); err != nil {
			return err
		}
		if s.Rotation == nil || !s.Rotation.Rotating {
			return nil
		}
		select {
		case <-cmd.Context().Done():
			return errors.New("interrupted: the node goes on by itself")
		case <-time.After(time.Second):
		}
	}
}

func sealSharesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "shares --need N --holder NAME --holder NAME …", Short: "Split the root key into shares for named people", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			holders, _ := cmd.Flags().GetStringArray("holder")
			need, _ := cmd.Flags().GetInt("need")
			of, _ := cmd.Flags().GetInt("of")
			switch {
			case len(holders) == 0:
				return usagef("name each person who gets a share with --holder NAME")
			case of != 0 && of != len(holders):
				return usagef("--of %d and %d holders do not fit: name each holder once", of, len(holders))
			}
			var shares []wire.Share
			if err := call(cmd, http.MethodPost, "/api/v1/seal/shares", wire.Split{Holders: holders, Need: need}, &shares); err != nil {
				return err
			}
			return show(cmd, shares, func(w io.Writer) error { return writeShares(w, shares, need) })
		},
	}
	cmd.Flags().Int("need", 3, "how many of the shares open the seal")
	cmd.Flags().Int("of", 0, "how many shares there are: as many as holders")
	cmd.Flags().StringArray("holder", nil, "somebody who gets a share; once for each")
	return cmd
}

func writeShares(w io.Writer, shares []wire.Share, need int) error {
	for _, s := range shares {
		if _, err := fmt.Fprintf(w, "%s\n  %s\n\n", clean(s.Holder), s.Share); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "These shares are shown this once. Give each to its holder, on paper, and to nobody else.\nNothing has changed yet. When they are written down, let %d holders prove it:\n\n  cloister seal confirm\n\nFrom then on every node of the cluster needs %d of them at each start.\n", need, need)
	return err
}

func sealConfirmCommand() *cobra.Command {
	return &cobra.Command{
		Use: "confirm", Short: "Show that enough shares were written down (one a line): from then on they are needed at each start", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			shares, err := readShares(cmd, "Share (empty line when there are enough): ", 20)
			if err != nil {
				return err
			}
			if len(shares) < 2 {
				return usagef("at least two shares are needed, one a line")
			}
			if err := call(cmd, http.MethodPost, "/api/v1/seal/shares/confirm", wire.Confirm{Shares: shares}, nil); err != nil {
				return err
			}
			return say(cmd, "The root key is split. No file holds it any more: at each start the holders must bring their shares.")
		},
	}
}

// readShares reads shares, one a line, which are not shown on a terminal.
func readShares(cmd *cobra.Command, ask string, most int) (out []string, err error) {
	if term.IsTerminal(int(os.Stdin.Fd())) {
		for len(out) < most {
			s, err := prompt(ask)
			if err != nil || strings.TrimSpace(s) == "" {
				return out, err
			}
			out = append(out, strings.TrimSpace(s))
		}
		return out, nil
	}
	lines := bufio.NewScanner(io.LimitReader(cmd.InOrStdin(), 64<<10))
	for len(out) < most && lines.Scan() {
		if s := strings.TrimSpace(lines.Text()); s != "" {
			out = append(out, s)
		}
	}
	return out, lines.Err()
}

func sealUnsealCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "unseal", Short: "Bring a share to a node that waits for it (from standard input, or asked for)", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			shares, err := readShares(cmd, "Share: ", 1)
			if err != nil {
				return err
			}
			if len(shares) == 0 {
				return usagef("the share is missing: give it on standard input")
			}
			var s wire.Seal
			if err := sealCall(cmd, http.MethodPost, "/api/v1/seal/unseal", wire.Unseal{Share: shares[0]}, &s); err != nil {
				return err
			}
			return show(cmd, s, func(w io.Writer) error {
				if s.Locked != nil && s.Locked.Missing > 0 {
					return writeLocked(w, *s.Locked)
				}
				_, err := fmt.Fprintln(w, "The seal is open: the node starts.")
				return err
			})
		},
	}
	addNodeFlags(cmd)
	return cmd
}

// addNodeFlags lets a command be used where nobody has signed in.
func addNodeFlags(cmd *cobra.Command) {
	cmd.Flags().String("url", "", "the node, https://HOST:PORT; the one that you signed in to when left out")
	cmd.Flags().String("ca", "", "the node's certificate authority, tls/ca.pem in its data folder")
}

// sealCall calls a node that may be sealed: its address and authority come from the
// flags or the profile.
func sealCall(cmd *cobra.Command, method, path string, in, out any) error {
	p, err := client.Load()
	if err != nil && !errors.Is(err, client.ErrNoProfile) {
		return err
	}
	if u, _ := cmd.Flags().GetString("url"); u != "" {
		p = client.Profile{URL: u, CA: p.CA} // a token goes to its own node only
	}
	if file, _ := cmd.Flags().GetString("ca"); file != "" {
		if p.CA, err = client.ReadCA(file); err != nil {
			return err
		}
	}
	if p.URL == "" {
		return usagef("say where the node is: --url https://HOST:PORT --ca ca.pem")
	}
	c, err := client.New(p)
	if err != nil {
		return err
	}
	return c.Do(cmd.Context(), method, path, in, out)
}

func sealFileCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "file", Short: "Keep the root key in a file again, so that every node starts by itself", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if yes, _ := cmd.Flags().GetBool("yes"); !yes {
				if err := confirm(cmd, "The root key will lie in a file on every node, and the shares open nothing any more.", "file", "--yes"); err != nil {
					return err
				}
			}
			if err := call(cmd, http.MethodPost, "/api/v1/seal/file", nil, nil); err != nil {
				return err
			}
			return say(cmd, "The root key lies in seal/root.key of each node's data folder again.")
		},
	}
	cmd.Flags().Bool("yes", false, "do not ask")
	return cmd
}
